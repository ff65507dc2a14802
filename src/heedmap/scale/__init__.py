"""A whole data set explained into a folder of Parquet files, in this process or by Ray, and read back."""
