"""Records of the report's tests picked by what they are, and their numbers."""


def finished(records, **wanted):
    """Those that finished and have this method, these bits and this seed, as far as they are given."""
    told = {"method": "method.name", "bits": "weight.bits", "seed": "seed"}
    return [
        record
        for record in records
        if record["status"] == "finished" and all(record["config"][told[key]] == wanted[key] for key in wanted)
    ]


def values(records, name="top1"):
    return [record["metrics"][name] for record in records]
