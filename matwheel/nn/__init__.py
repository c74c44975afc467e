"""Networks as plain torch modules, free of Lightning."""
