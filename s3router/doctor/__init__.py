"""An examination of an installation: what is here, what is missing and how to get it, what is broken."""
