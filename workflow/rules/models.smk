use rule step as train_model with:
    """Train one model with one seed, or read its weights."""
    input:
        unpack(inputs("train_model")),
    output:
        **outputs("train_model"),
    log:
        "<study>/logs/train_model/{model}-seed{seed}.log",
    threads: study.config["threads"]["train"]
    resources:
        **needs(4000, 240, gpu=gpus),
    params:
        **job("train_model"),
