use rule step as prepare_data with:
    """Read and check the data set."""
    input:
        unpack(inputs("prepare_data")),
    output:
        **outputs("prepare_data"),
    log:
        "<study>/logs/prepare_data.log",
    resources:
        **needs(2000, 60),
    params:
        **job("prepare_data"),
