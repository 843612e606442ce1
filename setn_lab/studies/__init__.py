"""The studies of section 5.3: arrays in, tables out."""
