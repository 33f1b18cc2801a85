"""
The genuine EC2 clients behind one small face, for the walk-through.

Each is used the way its own manual says; all of them block, so they run in a
thread.  A refusal is a L{Fault} with the service's code whatever the client
makes of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from tests.integration.aws_command import AwsCommand, AwsFailed

PATH = "/services/Cloud"


class Fault(Exception):
    """
    The service refused.
    """

    def __init__(self, code: str, message: str) -> None:
        Exception.__init__(self, f"{code}: {message}")
        self.code = code


@attrs.frozen
class Account:
    """
    Where to go, as whom.
    """

    host: str
    port: int
    access_key: str
    secret_key: str = attrs.field(repr=False)

    @property
    def url(self) -> str:
        """The endpoint as newer clients want it."""
        return f"http://{self.host}:{self.port}{PATH}"

    def forged(self) -> Account:
        """The same key with a wrong secret."""
        return attrs.evolve(self, secret_key="not" + self.secret_key)


Client = Any
"""One of the classes below: they have the same methods."""


def _ids(reservations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [instance for reservation in reservations for instance in reservation["Instances"]]


class Boto3Client:
    """
    boto3, the client of today.
    """

    def __init__(self, account: Account) -> None:
        import boto3
        from botocore.config import Config

        self._ec2 = boto3.session.Session().client(
            "ec2",
            endpoint_url=account.url,
            region_name="nova",
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            config=Config(retries={"max_attempts": 1}),
        )

    def close(self) -> None:
        """Nothing to end."""

    @contextmanager
    def _faults(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            raise Fault(error.response["Error"]["Code"], error.response["Error"]["Message"]) from error

    def images(self) -> list[str]:
        """Ids of all images."""
        with self._faults():
            return [image["ImageId"] for image in self._ec2.describe_images()["Images"]]

    def create_key_pair(self, name: str) -> str:
        """Its private half."""
        with self._faults():
            material: str = self._ec2.create_key_pair(KeyName=name)["KeyMaterial"]
            return material

    def key_pairs(self) -> list[str]:
        """Names."""
        with self._faults():
            return [pair["KeyName"] for pair in self._ec2.describe_key_pairs()["KeyPairs"]]

    def delete_key_pair(self, name: str) -> None:
        """By name."""
        with self._faults():
            self._ec2.delete_key_pair(KeyName=name)

    def run(self, image: str, count: int, key: str = "", token: str = "", dry: bool = False) -> tuple[str, list[str]]:
        """The reservation's id and those of its instances, in launch order."""
        extra: dict[str, Any] = {"KeyName": key} if key else {}
        if token:
            extra["ClientToken"] = token
        with self._faults():
            made = self._ec2.run_instances(
                ImageId=image, MinCount=count, MaxCount=count, InstanceType="m1.tiny", DryRun=dry, **extra
            )
        ordered = sorted(made["Instances"], key=lambda instance: instance["AmiLaunchIndex"])
        return made["ReservationId"], [instance["InstanceId"] for instance in ordered]

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """State of each id."""
        with self._faults():
            found = _ids(self._ec2.describe_instances(InstanceIds=list(ids))["Reservations"])
        return {instance["InstanceId"]: instance["State"]["Name"] for instance in found}

    def find(self, name: str, value: str) -> list[str]:
        """Ids of the instances that a filter passes."""
        with self._faults():
            answer = self._ec2.describe_instances(Filters=[{"Name": name, "Values": [value]}])
        return [instance["InstanceId"] for instance in _ids(answer["Reservations"])]

    def tag(self, id: str, key: str, value: str) -> None:
        """Set a tag."""
        with self._faults():
            self._ec2.create_tags(Resources=[id], Tags=[{"Key": key, "Value": value}])

    def tags(self, id: str) -> dict[str, str]:
        """Tags as the instance shows them."""
        with self._faults():
            found = _ids(self._ec2.describe_instances(InstanceIds=[id])["Reservations"])
        return {tag["Key"]: tag["Value"] for tag in found[0].get("Tags", [])}

    def console(self, id: str) -> str:
        """The text of the console."""
        with self._faults():
            answer = self._ec2.get_console_output(InstanceId=id)
        return str(answer.get("Output", ""))

    def act(self, verb: str, ids: Sequence[str]) -> None:
        """C{reboot}, C{stop}, C{start} or C{terminate}."""
        with self._faults():
            getattr(self._ec2, f"{verb}_instances")(InstanceIds=list(ids))

    def set_type(self, id: str, name: str) -> None:
        """Change the instance type."""
        with self._faults():
            self._ec2.modify_instance_attribute(InstanceId=id, InstanceType={"Value": name})

    def type(self, id: str) -> str:
        """The instance type, asked as an attribute."""
        with self._faults():
            answer = self._ec2.describe_instance_attribute(InstanceId=id, Attribute="instanceType")
        return str(answer["InstanceType"]["Value"])


class BotoClient:
    """
    boto 2.49, which signs with a scope of its own making and posts to a path
    with a slash at its end.
    """

    def __init__(self, account: Account) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import boto
            from boto.ec2.regioninfo import RegionInfo

            self._ec2 = boto.connect_ec2(
                account.access_key,
                account.secret_key,
                is_secure=False,
                port=account.port,
                path=PATH,
                region=RegionInfo(name="nova", endpoint=account.host),
            )
        self._ec2.num_retries = 0

    def close(self) -> None:
        """Nothing to end."""

    @contextmanager
    def _faults(self) -> Iterator[None]:
        from boto.exception import EC2ResponseError

        try:
            yield
        except EC2ResponseError as error:
            raise Fault(str(error.error_code), str(error.message)) from error

    def images(self) -> list[str]:
        """Ids of all images."""
        with self._faults():
            return [image.id for image in self._ec2.get_all_images()]

    def create_key_pair(self, name: str) -> str:
        """Its private half."""
        with self._faults():
            return str(self._ec2.create_key_pair(name).material)

    def key_pairs(self) -> list[str]:
        """Names."""
        with self._faults():
            return [pair.name for pair in self._ec2.get_all_key_pairs()]

    def delete_key_pair(self, name: str) -> None:
        """By name."""
        with self._faults():
            self._ec2.delete_key_pair(name)

    def run(self, image: str, count: int, key: str = "", token: str = "", dry: bool = False) -> tuple[str, list[str]]:
        """The reservation's id and those of its instances, in launch order."""
        with self._faults():
            made = self._ec2.run_instances(
                image,
                min_count=count,
                max_count=count,
                key_name=key or None,
                instance_type="m1.tiny",
                client_token=token or None,
                dry_run=dry,
            )
        ordered = sorted(made.instances, key=lambda instance: int(instance.ami_launch_index))
        return made.id, [instance.id for instance in ordered]

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """State of each id."""
        with self._faults():
            return {instance.id: instance.state for instance in self._ec2.get_only_instances(list(ids))}

    def find(self, name: str, value: str) -> list[str]:
        """Ids of the instances that a filter passes."""
        with self._faults():
            return [instance.id for instance in self._ec2.get_only_instances(filters={name: value})]

    def tag(self, id: str, key: str, value: str) -> None:
        """Set a tag."""
        with self._faults():
            self._ec2.create_tags([id], {key: value})

    def tags(self, id: str) -> dict[str, str]:
        """Tags as the instance shows them."""
        with self._faults():
            return dict(self._ec2.get_only_instances([id])[0].tags)

    def console(self, id: str) -> str:
        """The text of the console."""
        with self._faults():
            output = self._ec2.get_console_output(id).output
        return output.decode() if isinstance(output, bytes) else str(output or "")

    def act(self, verb: str, ids: Sequence[str]) -> None:
        """C{reboot}, C{stop}, C{start} or C{terminate}."""
        with self._faults():
            getattr(self._ec2, f"{verb}_instances")(list(ids))

    def set_type(self, id: str, name: str) -> None:
        """Change the instance type."""
        with self._faults():
            self._ec2.modify_instance_attribute(id, "instanceType", name)

    def type(self, id: str) -> str:
        """The instance type, asked as an attribute."""
        with self._faults():
            return str(self._ec2.get_instance_attribute(id, "instanceType")["instanceType"])


class AwsClient:
    """
    The C{aws} command, kept running; its first words are by the command itself.
    """

    def __init__(self, account: Account) -> None:
        self._command = AwsCommand(account.url, account.access_key, account.secret_key)

    def close(self) -> None:
        """End what it has started."""
        self._command.close()

    def _ask(self, *arguments: str) -> dict[str, Any]:
        return self._by(self._command.ask, *arguments)

    @staticmethod
    def _by(call: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
        try:
            return call(*arguments)
        except AwsFailed as error:
            if not error.code:
                raise
            raise Fault(error.code, str(error)) from error

    def images(self) -> list[str]:
        """Ids of all images."""
        return [image["ImageId"] for image in self._by(self._command.once, "describe-images")["Images"]]

    def create_key_pair(self, name: str) -> str:
        """Its private half."""
        return str(self._ask("create-key-pair", "--key-name", name)["KeyMaterial"])

    def key_pairs(self) -> list[str]:
        """Names."""
        return [pair["KeyName"] for pair in self._ask("describe-key-pairs")["KeyPairs"]]

    def delete_key_pair(self, name: str) -> None:
        """By name."""
        self._ask("delete-key-pair", "--key-name", name)

    def run(self, image: str, count: int, key: str = "", token: str = "", dry: bool = False) -> tuple[str, list[str]]:
        """The reservation's id and those of its instances, in launch order."""
        extra = ["--key-name", key] if key else []
        extra += ["--client-token", token] if token else []
        extra += ["--dry-run"] if dry else []
        made = self._ask(
            "run-instances", "--image-id", image, "--count", str(count), "--instance-type", "m1.tiny", *extra
        )
        ordered = sorted(made["Instances"], key=lambda instance: instance["AmiLaunchIndex"])
        return made["ReservationId"], [instance["InstanceId"] for instance in ordered]

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """State of each id."""
        found = _ids(self._ask("describe-instances", "--instance-ids", *ids)["Reservations"])
        return {instance["InstanceId"]: instance["State"]["Name"] for instance in found}

    def find(self, name: str, value: str) -> list[str]:
        """Ids of the instances that a filter passes."""
        answer = self._ask("describe-instances", "--filters", f"Name={name},Values={value}")
        return [instance["InstanceId"] for instance in _ids(answer["Reservations"])]

    def tag(self, id: str, key: str, value: str) -> None:
        """Set a tag."""
        self._ask("create-tags", "--resources", id, "--tags", f"Key={key},Value={value}")

    def tags(self, id: str) -> dict[str, str]:
        """Tags as the instance shows them."""
        found = _ids(self._ask("describe-instances", "--instance-ids", id)["Reservations"])
        return {tag["Key"]: tag["Value"] for tag in found[0].get("Tags", [])}

    def console(self, id: str) -> str:
        """The text of the console."""
        return str(self._ask("get-console-output", "--instance-id", id).get("Output", ""))

    def act(self, verb: str, ids: Sequence[str]) -> None:
        """C{reboot}, C{stop}, C{start} or C{terminate}."""
        self._ask(f"{verb}-instances", "--instance-ids", *ids)

    def set_type(self, id: str, name: str) -> None:
        """Change the instance type."""
        self._ask("modify-instance-attribute", "--instance-id", id, "--instance-type", name)

    def type(self, id: str) -> str:
        """The instance type, asked as an attribute."""
        answer = self._ask("describe-instance-attribute", "--instance-id", id, "--attribute", "instanceType")
        return str(answer["InstanceType"]["Value"])


CLIENTS: dict[str, Callable[[Account], Client]] = {"boto3": Boto3Client, "boto": BotoClient, "aws": AwsClient}
"""Every client by the name that tests show."""
