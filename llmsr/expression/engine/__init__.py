"""Tapes of array operations and the engines that evaluate them."""
