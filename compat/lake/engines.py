"""Fills the data lake of a server that is killed repeatedly, and counts the scans with query engines.

  engines.py BINARY folder|bucket [spark]

BINARY is a built qrjump. The S3 server for a bucket is moto's, or versitygw if VERSITYGW is its path; this program starts it.
DuckDB, and Spark if requested, count scans by day, brand and product; the results must agree with the server's statistics.
"""
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

BINARY, KIND, ENGINES = sys.argv[1], sys.argv[2], sys.argv[3:]
WORK = tempfile.mkdtemp(prefix="qrjump-lake-")
BUCKET, ROUNDS = "scans-of-a-test", 4
processes = []


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(name, ready, seconds=180):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"{name}: not ready within {seconds} s")
        time.sleep(0.05)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as r:
            return r.status == 200
    except OSError:
        return False


def start(args, **options):
    p = subprocess.Popen(args, **options)
    processes.append(p)
    return p


PORT, S3 = port(), port()
URL, ENDPOINT = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{S3}"
LAKE = f"s3://{BUCKET}/of/scans" if KIND == "bucket" else os.path.join(WORK, "lake")
KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret-of-a-test", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": ENDPOINT}
LOG = open(os.path.join(WORK, "server.log"), "ab")


def serve():
    p = start([BINARY, "serve", "--dev", "--data", os.path.join(WORK, "data"), "--listen", f"127.0.0.1:{PORT}", "--lake", LAKE],
              env={**os.environ, **KEYS, "HOME": WORK}, stdout=subprocess.DEVNULL, stderr=LOG)
    wait("the server", lambda: p.poll() is None and answers(URL + "/readyz") or p.poll() is not None)
    if p.poll() is not None:
        sys.exit("the server exited:\n" + open(LOG.name).read())
    return p


def cli(*args):
    env = {**os.environ, "QRJUMP_SERVER": URL, "QRJUMP_APPID": "wxserviceacct0001", "QRJUMP_SECRET": "secret0002", "HOME": WORK}
    return subprocess.run([BINARY, *args], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def admin(path, **query):
    with urllib.request.urlopen(f"{URL}/admin/v1/{path}?{urllib.parse.urlencode(query)}", timeout=60) as r:
        return json.load(r)


def s3():
    import boto3
    return boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")


def start_s3():
    """Starts an S3 server with an empty bucket: the data of an earlier server is lost."""
    args = [sys.executable, "-m", "moto.server", "-p", str(S3)]
    if os.environ.get("VERSITYGW"):
        folder = tempfile.mkdtemp(dir=WORK)
        args = [os.environ["VERSITYGW"], "--port", f"127.0.0.1:{S3}", "--access", KEYS["AWS_ACCESS_KEY_ID"],
                "--secret", KEYS["AWS_SECRET_ACCESS_KEY"], "posix", folder]
    p = start(args, stdout=subprocess.DEVNULL, stderr=LOG)
    wait("the S3 server", listens)
    s3().create_bucket(Bucket=BUCKET)
    return p


def listens():
    try:
        socket.create_connection(("127.0.0.1", S3), 1).close()
        return True
    except OSError:
        return False


def kill(p):
    p.kill()
    p.wait()


def scans(codes, seen, stop):
    rng = random.Random()
    while not stop.is_set():
        lines = "\n".join(json.dumps({"text": rng.choice(codes), "user": f"person {rng.randrange(500)}"}) for _ in range(50))
        c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        try:
            c.request("POST", "/scan/v1/resolve", lines, {"Content-Type": "application/x-ndjson"})
            for line in c.getresponse():
                seen.append(json.loads(line)["scan_id"])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            if not stop.is_set():
                time.sleep(0.05)
        finally:
            c.close()


SQL = """SELECT CAST(date AS VARCHAR), coalesce(brand, ''), coalesce(product, ''), count(*), count(DISTINCT scan_id)
    FROM {} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""


def duckdb():
    import duckdb as engine
    base = LAKE
    if KIND == "bucket":  # the S3 extension of DuckDB may be unavailable: the files are downloaded with their keys as paths
        base = os.path.join(WORK, "downloaded")
        client = s3()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", []):
                name = os.path.join(base, item["Key"].removeprefix("of/scans/"))
                os.makedirs(os.path.dirname(name), exist_ok=True)
                client.download_file(BUCKET, item["Key"], name)
    files = f"read_parquet('{base}/scans/*/*.parquet', hive_partitioning = true)"
    ids = {row[0] for row in engine.sql(f"SELECT scan_id FROM {files}").fetchall()}
    users = engine.sql(f"SELECT count(*) FROM {files} WHERE user_hash IS NULL").fetchall()[0][0]
    return engine.sql(SQL.format(files)).fetchall(), ids, users, base


def spark(base):
    from pyspark.sql import SparkSession
    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.sql.ansi.enabled", "true") \
        .config("spark.sql.ansi.enforceReservedKeywords", "true").getOrCreate()
    session.read.parquet(f"file://{base}/scans").createOrReplaceTempView("scans")
    rows = session.sql(SQL.format("scans").replace("(date AS VARCHAR)", "(`date` AS STRING)")).collect()
    session.stop()
    return [tuple(row) for row in rows]


def main():
    bucket = start_s3() if KIND == "bucket" else None
    server = serve()
    cli("batch", "apply", "10000", "--isv", "order-1")
    for first, brand, product in [(0, "Coffee", "690-beans"), (4000, "Coffee", "690-cups"), (7000, "Tea", "690-leaves")]:
        cli("batch", "activate", "500000001", f"{first}-{first + 1999}", "--activity", "Spring", "--brand", brand, "--title", product,
            "--product-code", product, "--target", "wxminiprogram0001", "--path", "pages/item/item")
    codes = ["https://nowhere.example/"]
    for index in random.sample(range(9000), 60):
        body = json.dumps({"application_id": 500000001, "code_index": index}).encode()
        r = urllib.request.Request(URL + "/admin/v1/codes/lookup", body, {"Content-Type": "application/json"})
        codes.append(json.load(urllib.request.urlopen(r))["code_url"])
    seen, stop = [], threading.Event()
    threads = [threading.Thread(target=scans, args=(codes, seen, stop), daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    for round in range(ROUNDS):
        minimum = len(seen) + 3000
        wait("scans", lambda: len(seen) >= minimum)
        time.sleep(random.random() * (20 if round == 1 else 3))  # one run is long enough for a scheduled write
        kill(server)
        if bucket and round == 2:  # the bucket is lost; an empty one replaces it
            kill(bucket)
            bucket = start_s3()
        server = serve()
    stop.set()
    for t in threads:
        t.join()
    if not bucket:
        shutil.rmtree(LAKE)  # the folder is lost
        kill(server)
        server = serve()
    deep = json.loads(cli("api", "verifyLake", "--output", "json"))["days"]
    days = [d for d in admin("lake/verification")["days"] if d["scan_log"]]
    for d in deep + days:
        assert not (d["missing"] or d["duplicates"] or d["unexpected"] or d["not_erased"]), f"the lake differs from the scan log: {d}"
    logged = sum(d["scan_log"] for d in days)
    if KIND == "bucket":
        assert "a-secret-of-a-test" not in open(LOG.name).read(), "the log contains the secret"
    erased = cli("api", "eraseUser", "user=person 1", "--yes")
    expected = {}
    for group in ("brand", "product"):
        answer = admin("statistics", by="day", group=group, **{"from": days[0]["date"], "to": days[-1]["date"]})
        for row in answer["rows"]:
            if row["scans"]:
                expected[group, row["starts_at"][:10], row["value"]] = row["scans"]
    server.send_signal(signal.SIGTERM)
    if server.wait() != 0:
        sys.exit("the server ended with an error")
    rows, ids, anonymous, base = duckdb()
    check("DuckDB", rows, expected, logged)
    missing = set(seen) - ids
    assert not missing, f"{len(missing)} acknowledged scans are missing in the lake"
    assert anonymous > 0, f"no scan in the lake was anonymised: {erased}"
    if "spark" in ENGINES:
        spark_rows = spark(base)
        check("Spark", spark_rows, expected, logged)
        assert [tuple(r) for r in rows] == spark_rows, "Spark and DuckDB differ"
    print("ok")


def check(engine, rows, expected, logged):
    for column, group in ((1, "brand"), (2, "product")):
        got = {}
        for row in rows:
            assert row[3] == row[4], f"{engine}: duplicate scan in {row}"
            got[group, row[0], row[column]] = got.get((group, row[0], row[column]), 0) + row[3]
        want = {k: v for k, v in expected.items() if k[0] == group}
        assert got == want, f"{engine} counts {got}, want {want}"
    total = sum(row[3] for row in rows)
    assert total == logged, f"{engine} counts {total} scans, the scan log has {logged}"
    print(f"{engine}: {total} scans in {len(rows)} groups, as in the scan log")


try:
    main()
finally:
    for p in processes:
        if p.poll() is None:
            kill(p)
    shutil.rmtree(WORK, ignore_errors=True)
