export const transfer = { async open() {} };
