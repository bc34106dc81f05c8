"""A service as Python speaks to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from difftune.bodies import job_body
from difftune.jobs import JOBS, Job, PathLike, path_of
from difftune.packing import archive_of
from difftune.places import address
from difftune.service import Service

if TYPE_CHECKING:
    import openai


class Client:
    """A service at an address. It may be used as a context, and closes its connections at the end of it."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        """Find the service.

        Args:
            url: its address, or the name of a profile; default: `DIFFTUNE_URL`, the profile `default`, or the service
                on this machine.
            key: an API key; default: `DIFFTUNE_API_KEY`, the profile's, or that of the service on this machine.

        Raises:
            ServiceError: there is none, or no key is known.
        """
        self.service = Service(*address(url, key))

    def __enter__(self) -> Self:
        """Use the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client's connections."""
        self.close()

    def __repr__(self) -> str:
        """Tell the address; never the key."""
        return f"Client({self.service.url!r})"

    def close(self) -> None:
        """Close all connections."""
        self.service.__exit__(None, None, None)

    @property
    def openai(self) -> openai.OpenAI:
        """OpenAI's client of the same service."""
        return self.service.openai

    def upload(self, images: PathLike, *, on_bad_files: str | None = None, splits: str | None = None) -> str:
        """Upload an archive, or a folder, of images and return the data set's id once it was found valid.

        Args:
            images: class folders, or captioned images; see `docs/datasets.md`.
            on_bad_files: `refuse` (default) or `skip`: what becomes of files that are unfit.
            splits: of an archive with train/ and val/ folders: `train`, `validation`, `test` or `hold_out`.

        Raises:
            ServiceError: it cannot be read, or is invalid; the message names the files that are bad.
        """
        settings = {"on_bad_files": on_bad_files, "splits": splits}
        with archive_of(Path(images)) as archive:
            sent = self.service.upload(archive, fields={name: told for name, told in settings.items() if told})
        return str(self.service.validated(sent)["id"])

    def submit(
        self,
        images: PathLike | None = None,
        *,
        model: str | None = None,
        method: str | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        validation: PathLike | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Job:
        """Submit a job that tunes a model on images.

        Args:
            images: an archive, a folder, or the id of a data set (`ds_...`); may be left out if `config` has it.
            model: id of a base model, default `tiny-dit`, or of a checkpoint (`ckpt_...`).
            method: `diff_tuning` (default), or `supervised`: plain fine-tuning.
            steps: optimizer steps; default: the model card's.
            epochs: in place of steps, passes over the training images.
            validation: held-out images to judge by, as `images`; default: a tenth of each class.
            name: goes into the names of files.
            config: fields as for `POST /v1/fine_tuning/jobs`.
            fields: any other field (`seed`, `evaluation`), or hyper-parameter of the method (`tau`, `batch_size`).

        Raises:
            ServiceError: the service refuses it; the message quotes it.
            ValueError: there is no such field.
        """
        given = {"training_file": images, "validation_file": validation}
        body = job_body(config, model=model, method=method, steps=steps, epochs=epochs, suffix=name, **fields)
        return Job(self.service, self.service.ask(JOBS, method="POST", json=self._with_files(body, given)))

    def plan(self, images: PathLike | None = None, **fields: Any) -> dict[str, Any]:
        """Tell what a job will need and take, without submitting it; takes what `submit` takes.

        Raises:
            ServiceError: the service refuses it; the message quotes it.
        """
        given = {"training_file": images, "validation_file": fields.pop("validation", None)}
        body = job_body(fields.pop("config", None), suffix=fields.pop("name", None), **fields)
        return self.service.ask(JOBS, method="POST", json=self._with_files(body, given), params={"dry_run": True})

    def job(self, job_id: str) -> Job:
        """Return a job of the service.

        Raises:
            ServiceError: there is no such job.
        """
        return Job(self.service, self.service.ask(path_of(job_id)))

    def jobs(self, limit: int = 20) -> list[Job]:
        """Return the newest jobs, the newest first."""
        return [Job(self.service, found) for found in self.service.ask(JOBS, params={"limit": limit})["data"]]

    def models(self) -> list[dict[str, Any]]:
        """Return the cards of the base models that can be tuned."""
        return list(self.service.ask("/v1/models", params={"kind": "base_model"})["data"])

    def _with_files(self, body: dict[str, Any], given: Mapping[str, PathLike | None]) -> dict[str, Any]:
        """The body with its files by their ids; those that are here are uploaded."""
        body |= {field: str(images) for field, images in given.items() if images is not None}
        for field in given:
            named = body.get(field)
            if named and not (named.startswith("ds_") and not Path(named).exists()):
                body[field] = self.upload(named)
        if "training_file" not in body:
            raise ValueError("which images? Name an archive, a folder, or the id of a data set")
        return body
