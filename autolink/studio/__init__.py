"""The studio: a page in the browser that plays with what AutoLink has learned; `autolink studio` serves it."""
