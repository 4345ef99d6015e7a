"""Networks whose features are compared: of packages that ship weights, or of a file that the user gives."""
