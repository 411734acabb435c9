"""Adds a copy of a connection record that ended long ago to a node's records.

usage: age_record.py FILE BYTES_RECEIVED MINUTES
"""
import datetime
import json
import sys

file, count, minutes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
records = [json.loads(line) for line in open(file)]
old = dict(next(record for record in records if record["bytes_received"] == count), id=999999)
ended = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)
old["time"] = ended.strftime("%Y-%m-%dT%H:%M:%S.000Z")
records = sorted(records + [old], key=lambda record: record["time"])
with open(file, "w") as out:
    out.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
