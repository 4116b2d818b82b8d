"""What a recipe needs of a TPU, found out without one."""
