export const discover = { async open() {} };
