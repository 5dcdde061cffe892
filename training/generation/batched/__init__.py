"""Reference dynamics of many molecules at a time, for engines that evaluate batches."""
