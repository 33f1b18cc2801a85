"""
Launch templates: what is to be launched, kept under a name, in versions.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record, iso_time, tag_facets

MOST_VERSIONS = 10_000
"""Versions that one template may have at a time, as on EC2."""


@attrs.frozen
class LaunchTemplate(Record):
    """
    @ivar name: unique in the project.
    @ivar created_by: the user.
    @ivar latest: the highest number that a version ever had or, when that one
        was deleted, the highest that is left.
    @ivar next: the number of the version that comes next; none is used twice.
    @ivar client_token: as the client gave it, empty for none.
    @ivar token_digest: hash of the parameters that came with it.
    """

    kind = "launch_template"
    taggable = True

    id: str
    project: str
    name: str
    created_at: float
    created_by: str
    default: int = 1
    latest: int = 1
    next: int = 2
    client_token: str = ""
    token_digest: str = ""
    tags: dict[str, str] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """Filed for its project, with its name and its token unique there."""
        token = (token_name(self.project, self.client_token),) if self.client_token else ()
        return Derived(
            scopes=(self.project, ALL),
            facets=(
                ("id", self.id),
                ("name", self.name),
                ("created", iso_time(self.created_at)),
                *tag_facets(self.tags),
            ),
            unique=(unique_name(self.project, self.name), *token),
            counters={f"quota:{self.project}:launch_templates": 1},
        )


@attrs.frozen
class LaunchTemplateVersion(Record):
    """
    One version; it never changes.

    @ivar id: C{TEMPLATE:NUMBER}.
    @ivar data: JSON: the launch's parameters by EC2's names.
    """

    kind = "launch_template_version"

    id: str
    project: str
    template: str
    number: int
    created_at: float
    created_by: str
    data: str
    description: str = ""
    client_token: str = ""
    token_digest: str = ""

    def derived(self) -> Derived:
        """Filed by its template."""
        token = (version_token_name(self.project, self.client_token),) if self.client_token else ()
        return Derived(
            scopes=(self.project, ALL),
            facets=(("id", self.id), ("template", self.template), ("number", str(self.number))),
            unique=token,
            counters={f"uses:launch_template:{self.template}": 1},
            references=(("launch_template", self.template),),
        )


def version_id(template: str, number: int) -> str:
    """
    The id of a template's version.
    """
    return f"{template}:{number}"


def unique_name(project: str, name: str) -> str:
    """
    The unique name under which the store finds a project's template.
    """
    return f"launch_template:{project}:{name}"


def token_name(project: str, token: str) -> str:
    """
    The unique name of the client token that made a template.
    """
    return f"template-token:{project}:{token}"


def version_token_name(project: str, token: str) -> str:
    """
    The unique name of the client token that made a version.
    """
    return f"template-version-token:{project}:{token}"
