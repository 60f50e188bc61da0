"""The use case: an issue and a repository in, a verified patch out; and going on with a run that was cut off.

`fix` and `resume` share one path, `_Run.go`, whose stages each look into the log for what is already done.
Left out: several attempts and choosing among them.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import checks, config, deliver, follow_up, hosts, loop, machine, network, opening, prompts, runs, verify
from agent.checkout import Base
from agent.ends import EXIT_CODES, End, InputProblem, LoopEnded, Outcome, RunProblem, outcome_of
from agent.events import EventLog, EventLogError, EventType, Listener
from agent.follow_up import FollowUp
from agent.hosts import Host
from agent.images import Shelf, sees
from agent.last_look import last_look
from agent.request import FixRequest
from agent.revival import Revival
from agent.runs import RunFolder
from agent.session import Session
from agent.sources import issues, repositories
from agent.worktree import Worktree
from sandbox.base import Sandbox, SandboxError

if TYPE_CHECKING:
    from runtime.admission import Place


_SWEEP_SECONDS = 5.0  # that a run's end gives to what is still cleared away


@dataclass(frozen=True, slots=True)
class FixResult:
    """What a run came to."""

    run: str
    outcome: Outcome
    message: str
    patch: Path | None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


async def fix(request: FixRequest, listeners: tuple[Listener, ...] = ()) -> FixResult:
    """Solve one issue. Raises RunProblem when nothing could be started; every later end is a result."""
    hosts.refuse_secrets(request.model)
    repository = await repositories.resolve(request.repository)
    if request.delivery.branch:
        await deliver.check_branch(repository.folder, request.delivery.branch)
    if request.delivery.apply and not repository.folder:
        raise InputProblem("--apply needs a local repository: clone it first, or use --out FILE")
    if request.delivery.out:
        deliver.check_out(Path(request.delivery.out))
    issue = await issues.resolve(request.issue, slug=repository.slug)
    folder = runs.new_run()
    try:
        base = await repositories.fetch_base(
            repository, folder.repository, request.revision, allow_dirty=request.allow_dirty
        )
        await config.read_config(folder.repository, base.commit)
        log = EventLog(folder.events, listeners)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    log.append(
        EventType.RUN_STARTED,
        run=folder.id,
        request=request.to_json(),
        repository={"url": repository.url, "folder": str(repository.folder) if repository.folder else None},
        issue={"text": issue.text, "source": issue.source},
        base={"commit": base.commit, "tree": base.tree, "notes": list(base.notes)},
        versions=_versions(),
    )
    return await _Run(folder, log, request, repository.folder, {"text": issue.text, "source": issue.source}, base).go()


async def resume(
    name: str,
    listeners: tuple[Listener, ...] = (),
    change: Callable[[FixRequest], FixRequest] = lambda same: same,
    more: FollowUp | None = None,
) -> FixResult:
    """Go on with a run. `change` may raise its limits or name another model. Raises RunProblem.

    `more` is said to a run, mostly one that has ended, which then goes on until it has submitted again.
    """
    folder = runs.find_run(name)
    try:
        log = EventLog(folder.events, listeners)
    except EventLogError as error:
        raise InputProblem(str(error)) from None
    started = log.last(EventType.RUN_STARTED)
    if started is None:
        log.close()
        raise InputProblem(f"run {folder.id} was cut off before it had begun: start it again with `agent fix`")
    data = started.data
    resumed = log.last(EventType.RUN_RESUMED)
    request = change(FixRequest.from_json((resumed or started).data["request"]))
    try:
        hosts.refuse_secrets(request.model)
        if more is not None:
            request = follow_up.ask(log, request, more)
    except InputProblem:
        log.close()
        raise
    ended = log.last(EventType.RUN_ENDED)
    before = (resumed or started).data["request"]
    if ended and not follow_up.reopened(log) and not _can_go_on(Outcome(ended.data["outcome"]), request, before):
        log.close()
        patch = folder.patch if folder.patch.exists() else None
        return FixResult(folder.id, Outcome(ended.data["outcome"]), ended.data["message"], patch)
    log.append(EventType.RUN_RESUMED, request=request.to_json(), versions=_versions())
    base = Base(data["base"]["commit"], data["base"]["tree"], tuple(data["base"]["notes"]))
    source = data["repository"]["folder"]
    return await _Run(folder, log, request, Path(source) if source else None, data["issue"], base).go()


def _can_go_on(outcome: Outcome, request: FixRequest, before: dict[str, Any]) -> bool:
    """An ended run goes on when it stopped for a reason outside the work, or when its limits were raised."""
    if outcome in (Outcome.MODEL, Outcome.SANDBOX, Outcome.STORAGE, Outcome.INTERRUPTED):
        return True
    return outcome is Outcome.LIMIT and request.to_json()["limits"] != before["limits"]


def _check_tokenizer(log: EventLog, host: Host, target: str) -> None:
    """Only the vocabulary that a run's ids were made with knows what they mean. Raises RunProblem for another.

    A tokenizer that reads the run's prompt the same goes, whatever its name.
    """
    from runtime.transcript import Prompt, Transcript

    prompt = log.last(EventType.PROMPT)
    before = log.of_type(EventType.MODEL_CONNECTED) if prompt else []
    made_by = next((e.data.get("tokenizer") for e in reversed(before) if prompt and e.seq < prompt.seq), None)
    tokenizer = host.model.tokenizer
    if prompt is None or made_by is None or made_by == tokenizer.name:
        return
    transcript = Transcript(tokenizer, enable_thinking=host.thinking)
    ids = transcript.encode(Prompt(tuple(prompt.data["messages"]), tuple(prompt.data["tools"])))
    if list(ids) != prompt.data["ids"]:
        raise RunProblem(
            Outcome.MODEL,
            f"run {log.run_id} was written in the tokens of {made_by!r}, and {target} has another vocabulary "
            f"({tokenizer.name!r}): `agent resume {log.run_id} --model ...` goes on with a model of the same one",
        )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "patchwright": version("patchwright"),
        "python": platform.python_version(),
        "prompts": prompts.prompt_fingerprint(),
    }


class _Run:
    """One run from its start or from wherever an earlier process left it."""

    def __init__(
        self,
        folder: RunFolder,
        log: EventLog,
        request: FixRequest,
        source: Path | None,
        issue: dict[str, Any],
        base: Base,
    ) -> None:
        self.folder = folder
        self.log = log
        self.request = request
        self.source = source
        self.issue = issue
        self.base = base

    async def go(self) -> FixResult:
        """All stages. Whatever ends the run is written to the log, as far as the disk allows."""
        try:
            try:
                return await self._stages()
            except asyncio.CancelledError:
                return self._end(Outcome.INTERRUPTED, f"interrupted; `agent resume {self.folder.id}` goes on")
            except SandboxError as error:
                return self._end(Outcome.SANDBOX, str(error))
            except RunProblem as error:
                return self._end(error.outcome, str(error))
        except OSError as error:
            raise RunProblem(
                Outcome.STORAGE,
                f"the run's folder {self.folder.path} can't be written ({error.strerror or error!r}): make room, "
                f"then `agent resume {self.folder.id}` goes on",
            ) from None
        finally:
            self.log.close()
            await machine.cleared(_SWEEP_SECONDS)

    async def _stages(self) -> FixResult:
        settings = await config.read_config(self.folder.repository, self.base.commit)
        end, message, tree = await self._loop(settings)
        if end in (End.MODEL, End.SANDBOX):
            await self._keep_patch(tree)
            return self._end(outcome_of(end, has_patch=False, verified=False), message)
        patch = await self._keep_patch(tree)
        verified = bool(patch) and await self._verify(settings, tree, patch)
        if patch:
            await self._deliver(tree, patch, verified)
        outcome = outcome_of(end, has_patch=bool(patch), verified=verified)
        return self._end(outcome, message)

    # -- the loop -------------------------------------------------------------------------------------------

    async def _loop(self, settings: config.RepositoryConfig) -> tuple[End, str, str]:
        """(how the loop ended, what was seen, the tree it left)."""
        if done := self._finished_loop():
            return done
        host = await hosts.reach(self.request, self.log)
        try:
            _check_tokenizer(self.log, host, self.request.model)
            place = await self._machine(settings)
            line = hosts.room(host, self.request.model, self.log, self._progress, self.request.limits)
            try:
                async with line as room:
                    sandbox = await self._opened(place)
                    try:
                        ended, tree = await self._run_loop(host, place, sandbox, room)
                    finally:
                        await sandbox.close()
                        place.clear()
            except LoopEnded as late:  # in the wait for room
                ended, tree = late, self._replayed(host).tree
        finally:
            await host.model.close()
        self.log.append(EventType.LOOP_ENDED, end=ended.end, message=str(ended), tree=tree)
        return ended.end, str(ended), tree

    async def _opened(self, place: machine.Machine) -> Sandbox:
        """The run's sandbox, waited for as long as the run may take. Raises LoopEnded, SandboxError."""
        try:
            async with asyncio.timeout(self.request.limits.seconds - hosts.seconds_spent(self.log)):
                return await place.open()
        except TimeoutError:
            raise LoopEnded(
                End.TIME,
                "the time limit came while the run waited for a sandbox: the machine's memory is held by others; "
                "--timeout allows more time",
            ) from None

    def _finished_loop(self) -> tuple[End, str, str] | None:
        """The loop's end if nothing was resumed after it that should run it again."""
        event = self.log.last(EventType.LOOP_ENDED)
        if follow_up.after(self.log, event):
            return None
        if event is None or End(event.data["end"]) is not End.SUBMITTED:
            ended = self.log.last(EventType.RUN_ENDED)
            if event is None or (ended is not None and ended.seq > event.seq):
                return None
        return End(event.data["end"]), event.data["message"], event.data["tree"]

    async def _machine(self, settings: config.RepositoryConfig) -> machine.Machine:
        access = network.Access.of(self.request, self.log)
        if opened := self.log.last(EventType.SANDBOX_OPENED):
            machine.clear_away()
            data = opened.data
            return machine.Machine(data["kind"], data["image"], data["workdir"], self.folder, access, self._progress)
        builds = settings.sandbox.dockerfile or settings.sandbox.setup
        if builds and not (self.source or self.request.image or self.request.allow_build):
            raise InputProblem(
                "the repository's .patchwright.toml asks to build an image, which runs its code with network: "
                "allow it with --allow-build, or name a finished image with --image"
            )
        place = await machine.prepare(
            self.request.sandbox,
            self.request.image,
            settings,
            self.folder,
            self._progress,
            may_build=bool(self.source or self.request.allow_build),
            workdir=self.request.workdir,
        )
        if wish := network.ungranted(self.request, settings):
            self._progress(wish)
        self.log.append(
            EventType.SANDBOX_OPENED, kind=place.kind, image=place.image, workdir=place.workdir, network=access.network
        )
        return replace(place, access=access, tell=self._progress)

    def _progress(self, text: str) -> None:
        self.log.append(EventType.PROGRESS, text=text)

    async def _run_loop(
        self, host: Host, place: machine.Machine, sandbox: Sandbox, room: Place
    ) -> tuple[LoopEnded, str]:
        from tools.base import ToolContext

        tools = opening.tools_for(self.log, host.model)
        session = self._replayed(host)
        worktree = Worktree(sandbox, self.folder.repository, self.base)
        await worktree.fill()
        if session.tree != self.base.tree:
            await worktree.restore(session.tree)
        specs = [tool.spec for tool in tools.values()]
        context = ToolContext(sandbox, self.folder.blobs, worktree.diff)
        shelf = Shelf(self.log, self.folder.blobs) if sees(host.model) else None
        if not len(session.transcript.ids):
            messages = await opening.first_messages(
                self.issue, workdir=sandbox.workdir, notes=(*self.base.notes, *network.model_notes(self.request)),
                blobs=self.folder.blobs, pictures=shelf is not None,
            )  # fmt: skip
            session.record_prompt(messages, specs)
        if shelf is not None:
            opening.count_shown(session, self.folder.blobs, self.log.of_type(EventType.PROMPT)[0].data["messages"])
        if said := follow_up.waiting(self.log):
            session.record_followed(said)
        options = host.constrained_to(specs, self.request.generation.constrained)
        revival = Revival(self.log, worktree, context, place.open)
        agent = loop.Agent(host.model, host.sampling, tools, worktree, context, options, shelf, room.grow, revival)
        try:
            ended = await loop.run(agent, session)
            tree = await self._last_tree(worktree, session, ended)
            went_on = any(map(self.log.last, (EventType.RUN_RESUMED, EventType.SANDBOX_DIED)))
            await last_look(context.sandbox, ended, resumed=went_on)
            return ended, tree
        finally:
            await revival.close()

    def _replayed(self, host: Host) -> Session:
        """The session as the log left it. Raises RunProblem."""
        from runtime.transcript import TranscriptError

        session = Session(self.log, host.model.tokenizer, self.request.limits, self.base.tree, thinking=host.thinking)
        try:
            session.replay()
        except TranscriptError as error:
            raise RunProblem(Outcome.MODEL, f"the log of run {self.folder.id} can't be gone on with: {error}") from None
        return session

    async def _last_tree(self, worktree: Worktree, session: Session, ended: LoopEnded) -> str:
        """The tree that the loop left: a call that a limit cut off may have changed something too."""
        if ended.end is End.SANDBOX:
            return session.tree
        try:
            await worktree.checkpoint()
        except SandboxError:
            return session.tree
        return worktree.tree

    # -- after the loop -------------------------------------------------------------------------------------

    async def _keep_patch(self, tree: str) -> str:
        if tree == self.base.tree:
            self.folder.patch.unlink(missing_ok=True)  # a follow-up may have taken everything back
            return ""
        return await verify.extract(self.log, self.folder.repository, self.base, tree, self.folder.patch)

    async def _verify(self, settings: config.RepositoryConfig, tree: str, patch: str) -> bool:
        submitted = self._submission()
        commands = await checks.plan(
            self.folder.repository, self.base, tree, self.log.events, settings, submitted.get("reproduction")
        )
        place = await self._machine(settings)
        try:
            result = await verify.verify(self.log, self.folder.repository, self.base, tree, patch, commands, place.open)
        finally:
            place.clear()
        self.log.append(
            EventType.VERIFIED, verified=result.verified, applies=result.applies, verdicts=list(result.verdicts)
        )
        return result.verified

    def _submission(self) -> dict[str, Any]:
        for event in reversed(self.log.of_type(EventType.OBSERVATION)):
            if event.data["ends_run"]:
                return dict(event.data["facts"])
        return {}

    async def _deliver(self, tree: str, patch: str, verified: bool) -> None:
        """A file and a branch take any patch; the user's own work tree only a verified one."""
        wanted, work = self.request.delivery, deliver.Work(self.log, self.folder, self.base, tree)
        if wanted.out:
            deliver.to_file(patch, Path(wanted.out))
            self.log.append(EventType.DELIVERED, out=wanted.out)
        if wanted.branch and self.source:
            summary = str(self._submission().get("summary", ""))
            await deliver.as_branch(work, self.source, wanted.branch, self.issue["text"], summary)
        if wanted.apply and verified and self.source:
            await deliver.as_changes(work, self.source)

    def _end(self, outcome: Outcome, message: str) -> FixResult:
        self.log.append(EventType.RUN_ENDED, outcome=outcome, exit_code=EXIT_CODES[outcome], message=message)
        patch = self.folder.patch if self.folder.patch.exists() else None
        return FixResult(self.folder.id, outcome, message, patch)
