"""The field's figures, each from its published definition. Arrays in, numbers out."""
