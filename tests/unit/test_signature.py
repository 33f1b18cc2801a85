"""
Signatures as real clients make them, and as attackers would like them.
"""

from __future__ import annotations

import time
from calendar import timegm

import attrs
from botocore.auth import SigV2Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.trial.unittest import SynchronousTestCase

from fabric.api.form import BadForm, parse_form
from fabric.api.signature import WINDOW, Claim, Presented, SignatureRefused, Verifier, claim

SECRET = "secret"
BODY = b"Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0"
URL = "http://127.0.0.1:8773/services/Cloud/"
RECORDED = timegm((2026, 11, 21, 12, 1, 41))


def presented(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Presented:
    """What a door makes of a request."""
    path, _, query = target.partition("?")
    form = parse_form(body) if method == "POST" else {}
    names = {name.lower(): value for name, value in headers.items()}
    return Presented(method, path, parse_form(query.encode()), form, names, body)


def signed_by_botocore(headers: dict[str, str], region: str = "nova") -> Presented:
    """A POST that botocore signs now."""
    request = AWSRequest("POST", URL, data=BODY, headers=headers)
    SigV4Auth(Credentials("AK:project", SECRET), "ec2", region).add_auth(request)
    sent = {**dict(request.headers.items()), "Host": "127.0.0.1:8773"}
    return presented("POST", "/services/Cloud/", sent, BODY)


BOTO_2 = presented(
    "POST",
    "/services/Cloud/",
    {
        "Accept-Encoding": "identity",
        "X-Amz-Date": "20261121T120137Z",
        "Host": "127.0.0.1:28899",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AK:proj/20261121/0/127/aws4_request,"
        "SignedHeaders=host;x-amz-date,Signature=b32472527a6d5f049d30b44e408631d0e3a844c75cd7fe9c923c78d19558e917",
    },
    b"Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=running&Filter.1.Value.2=pending"
    b"&Filter.2.Name=tag%3AName&Filter.2.Value.1=x&InstanceId.1=i-0123456789abcdef0&MaxResults=5&Version=2014-10-01",
)
"""Recorded from boto 2.49, which guesses region 0 and service 127 from the address."""

BOTO_2_GET = presented(
    "GET",
    "/services/Cloud/?Action=RebootInstances&InstanceId.1=i-0123456789abcdef0&Version=2014-10-01",
    {
        "X-Amz-Date": "20261121T120137Z",
        "Host": "127.0.0.1:28899",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AK:proj/20261121/0/127/aws4_request,"
        "SignedHeaders=host;x-amz-date,Signature=096254201c4e3cc89eaedd5a3bed5f0de6d033e38d4776a141bc98d7617c4245",
    },
)
"""Recorded from boto 2.49."""

PRESIGNED = presented(
    "GET",
    "/services/Cloud?Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0"
    "&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%3Aproj%2F20261121%2Fnova%2Fec2%2Faws4_request"
    "&X-Amz-Date=20261121T120141Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=dff2803e9d991791a0c0c651559e114d829ce76516c3221f524d81e8899bf924",
    {"Host": "127.0.0.1:28899", "User-Agent": "Python-urllib/3.11"},
)
"""Recorded from boto3's C{generate_presigned_url}."""

BOTO_2_OLD = presented(
    "POST",
    "/services/Cloud/",
    {"Host": "127.0.0.1"},
    b"AWSAccessKeyId=AK%3Aproj&Action=DescribeInstances&Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=x~y%2Az%2F%C3%A9"
    b"&InstanceId.1=i-0123456789abcdef0&SignatureMethod=HmacSHA256&SignatureVersion=2"
    b"&Timestamp=2026-11-21T12%3A01%3A41Z&Version=2014-10-01&Signature=lXkfHThYWALzCIInxa2o1Qultj9tV0V%2B0r87TETfqMo%3D",
)
"""Recorded from boto 2.49 told to use version 2, which leaves the port out of the host."""


class SignatureTests(SynchronousTestCase):
    """
    L{claim} and L{Verifier}.
    """

    def check(self, request: Presented, now: float = RECORDED, secret: str = SECRET) -> Claim:
        """Both steps."""
        made = claim(request, now)
        Verifier().check(made, secret)
        return made

    def refusal(self, request: Presented, now: float = RECORDED, secret: str = SECRET) -> str:
        """Why it is refused."""
        return str(self.assertRaises(SignatureRefused, self.check, request, now, secret).why)

    def test_botocore(self) -> None:
        """What botocore signs is right, for any region, and the key keeps its project."""
        made = self.check(signed_by_botocore({}, "anywhere-7"), time.time())
        self.assertEqual(("AK:project", "anywhere-7"), (made.access_key, made.scope[1]))

    def test_euca2ools_headers(self) -> None:
        """The headers that euca2ools signs besides are taken in, spaces folded."""
        headers = {
            "Accept": "*/*",
            "Accept-Encoding": "gzip,   deflate",
            "Content-Length": str(len(BODY)),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        request = signed_by_botocore(headers, "undefined-4711")
        self.assertIn("accept;accept-encoding;content-length", request.headers["authorization"])
        self.check(request, time.time())

    def test_recorded_clients(self) -> None:
        """Recorded requests of boto 2 (POST, GET and version 2) and a presigned URL are right."""
        for request in (BOTO_2, BOTO_2_GET, PRESIGNED, BOTO_2_OLD):
            self.assertEqual("AK:proj", self.check(request).access_key)

    def test_presigned_now(self) -> None:
        """A fresh presigned URL of botocore's is right."""
        request = AWSRequest("GET", URL + "?" + BODY.decode())
        SigV4QueryAuth(Credentials("AK", SECRET), "ec2", "nova", expires=60).add_auth(request)
        target = request.url.removeprefix("http://127.0.0.1:8773")
        self.check(presented("GET", target, {"Host": "127.0.0.1:8773"}), time.time())

    def test_version_2_of_botocore(self) -> None:
        """Version 2 in the query of a GET, host with its port, as libcloud signs too."""
        request = AWSRequest("GET", URL, params={"Action": "DescribeImages", "Owner.1": "a b*~é"})
        SigV2Auth(Credentials("AK", SECRET)).add_auth(request)
        target = request.prepare().url.removeprefix("http://127.0.0.1:8773")
        self.check(presented("GET", target, {"Host": "127.0.0.1:8773"}), time.time())

    def test_wrong_secret(self) -> None:
        """Another secret gives another signature, in each version and form."""
        for request in (BOTO_2, BOTO_2_GET, PRESIGNED, BOTO_2_OLD):
            self.assertEqual("mismatch", self.refusal(request, secret="Secret"))

    def test_each_part_is_signed(self) -> None:
        """A change of method, path, query, header or body is found out."""
        changes = [
            {"method": "PUT"},
            {"path": "/services/Cloud"},
            {"query": {"Action": "TerminateInstances"}},
            {"body": BOTO_2.body + b"&DryRun=false"},
            {"headers": {**BOTO_2.headers, "host": "127.0.0.1:28898"}},
            {"headers": {**BOTO_2.headers, "x-amz-date": "20261121T120138Z"}},
        ]
        for change in changes:
            self.assertEqual("mismatch", self.refusal(attrs.evolve(BOTO_2, **change)), change)
        for request in (PRESIGNED, BOTO_2_OLD):
            self.assertEqual("mismatch", self.refusal(attrs.evolve(request, path="/")))
        self.assertEqual("mismatch", self.refusal(attrs.evolve(PRESIGNED, query={**PRESIGNED.query, "DryRun": "1"})))
        self.assertEqual("mismatch", self.refusal(attrs.evolve(BOTO_2_OLD, form={**BOTO_2_OLD.form, "DryRun": "1"})))

    def test_host_must_be_signed(self) -> None:
        """A signature that leaves the host out is none."""
        header = BOTO_2.headers["authorization"].replace("host;", "")
        request = attrs.evolve(BOTO_2, headers={**BOTO_2.headers, "authorization": header})
        self.assertEqual("mismatch", self.refusal(request))

    def test_window(self) -> None:
        """A request is good for a quarter of an hour, on either side."""
        for request in (BOTO_2, BOTO_2_OLD):
            self.check(request, RECORDED + WINDOW - 10)
            self.check(request, RECORDED - WINDOW + 10)
            self.assertEqual("expired", self.refusal(request, RECORDED + WINDOW + 10))
            self.assertEqual("expired", self.refusal(request, RECORDED - WINDOW - 10))

    def test_presigned_expires(self) -> None:
        """A presigned URL is good for as long as it says."""
        self.check(PRESIGNED, RECORDED + 3599)
        self.assertEqual("expired", self.refusal(PRESIGNED, RECORDED + 3601))

    def test_old_expires(self) -> None:
        """Version 2 may name the end of its time instead of its time."""
        form = {name: value for name, value in BOTO_2_OLD.form.items() if name != "Timestamp"}
        form["Expires"] = "2026-11-21T12:01:40Z"
        self.assertEqual("expired", self.refusal(attrs.evolve(BOTO_2_OLD, form=form)))
        form["Expires"] = "2026-11-21T12:01:50.000Z"
        self.assertEqual("mismatch", self.refusal(attrs.evolve(BOTO_2_OLD, form=form)))

    def test_missing(self) -> None:
        """A request without any signature is told so."""
        self.assertEqual("missing", self.refusal(presented("POST", "/", {"Host": "a"}, BODY)))

    def test_incomplete(self) -> None:
        """Half a signature is told so, whatever half it is."""
        good = BOTO_2.headers["authorization"]
        for header in (
            "Basic abc",
            "AWS4-HMAC-SHA256",
            good.replace("Signature=b", "Nothing=b"),
            good.replace("aws4_request", "aws5_request"),
            good.replace("/0/127", ""),
        ):
            request = attrs.evolve(BOTO_2, headers={**BOTO_2.headers, "authorization": header})
            self.assertEqual("incomplete", self.refusal(request), header)
        for date in ("yesterday", "20261321T120137Z", "2026112aT120137Z", ""):
            request = attrs.evolve(BOTO_2, headers={**BOTO_2.headers, "x-amz-date": date})
            self.assertIn(self.refusal(request), ("incomplete", "expired"), date)
        for name in ("SignatureMethod", "SignatureVersion", "Timestamp", "AWSAccessKeyId"):
            form = {**BOTO_2_OLD.form, name: ""}
            self.assertEqual("incomplete", self.refusal(attrs.evolve(BOTO_2_OLD, form=form)), name)

    def test_date_header(self) -> None:
        """The header Date serves where there is no X-Amz-Date."""
        headers = {name: value for name, value in BOTO_2.headers.items() if name != "x-amz-date"}
        headers["date"] = "Sat, 21 Nov 2026 12:01:37 GMT"
        headers["authorization"] = headers["authorization"].replace("x-amz-date", "date")
        self.assertEqual("mismatch", self.refusal(attrs.evolve(BOTO_2, headers=headers)))
        self.assertIn(b"20261121T120137Z", claim(attrs.evolve(BOTO_2, headers=headers), RECORDED).texts[0])

    def test_absurd_dates(self) -> None:
        """A date beyond what a computer counts is half a signature, and no other failure."""
        headers = {name: value for name, value in BOTO_2.headers.items() if name != "x-amz-date"}
        for date in (
            "Sat, 21 Nov 99999999999999999999 12:00:00 GMT",
            "Sat, 21 Nov 2026 12:00:00 +99999999999999999999",
        ):
            request = attrs.evolve(BOTO_2, headers={**headers, "date": date})
            self.assertEqual("incomplete", self.refusal(request), date)
        for date in ("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"):
            for name in ("Timestamp", "Expires"):
                form = {key: value for key, value in BOTO_2_OLD.form.items() if key != "Timestamp"}
                request = attrs.evolve(BOTO_2_OLD, form={**form, name: date})
                self.assertEqual("incomplete", self.refusal(request), date)

    def test_fresh_time_beside_an_old_one(self) -> None:
        """An old request of version 2 can't be sent again with a fresh time in its query."""
        later = RECORDED + 86400.0
        form = {name: value for name, value in BOTO_2_OLD.form.items() if name != "Signature"}
        query = {name: BOTO_2_OLD.form[name] for name in ("AWSAccessKeyId", "SignatureMethod", "SignatureVersion")}
        query |= {"Signature": BOTO_2_OLD.form["Signature"], "Timestamp": "2026-11-22T12:01:41Z"}
        self.assertEqual("incomplete", self.refusal(attrs.evolve(BOTO_2_OLD, query=query, form=form), later))

    def test_any_bytes(self) -> None:
        """Bytes that are no text, anywhere, make a wrong signature and no other failure."""
        header = BOTO_2.headers["authorization"][:-4] + "é\udcff"
        request = attrs.evolve(BOTO_2, headers={**BOTO_2.headers, "authorization": header})
        self.assertEqual("incomplete", self.refusal(request))
        form = {**BOTO_2_OLD.form, "Signature": "é"}
        self.assertEqual("mismatch", self.refusal(attrs.evolve(BOTO_2_OLD, form=form)))
        for request in (BOTO_2, BOTO_2_OLD, PRESIGNED):
            changed = attrs.evolve(request, path="/\udcff%2f", headers={**request.headers, "host": "\udcff"})
            self.assertEqual("mismatch", self.refusal(changed))

    def test_nobody(self) -> None:
        """For an unknown key the check is made all the same, and fails."""
        for request in (BOTO_2, BOTO_2_OLD):
            made = claim(request, RECORDED)
            failure = self.assertRaises(SignatureRefused, Verifier().check_nobody, made)
            self.assertEqual("mismatch", failure.why)

    def test_kept_keys_are_bounded(self) -> None:
        """Signing keys are kept for right signatures only, and not for ever."""
        verifier = Verifier()
        made = claim(BOTO_2, RECORDED)
        self.assertRaises(SignatureRefused, verifier.check, made, "other")
        self.assertEqual({}, verifier._keys)
        verifier._keys.update({(str(n), ()): b"" for n in range(5000)})
        verifier.check(made, SECRET)
        verifier.check(made, SECRET)
        self.assertLess(len(verifier._keys), 2049)


class FormTests(SynchronousTestCase):
    """
    L{parse_form}.
    """

    def test_decodes(self) -> None:
        """Escapes and plus signs are undone, in UTF-8; empty parts are skipped."""
        self.assertEqual({"a b": "é+", "c": "", "d": "="}, parse_form(b"a+b=%C3%A9%2B&c=&&d=%3D"))

    def test_refuses(self) -> None:
        """A name that comes twice, what is not UTF-8 and a flood are no forms."""
        for raw in (b"a=1&a=2", b"a=1&%61=2", b"a=%FF", b"\xff=1", b"&".join(b"%d=" % n for n in range(5000))):
            self.assertRaises(BadForm, parse_form, raw)
