"""What the tasks of an evaluation run on: CLIPs, diffusion hosts, segmenters and judges, each loaded once."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.arms import suits
from pipelines.console import warn

if TYPE_CHECKING:
    from eval.arms import ArmName
    from eval.judges import Judge
    from eval.options import Options
    from eval.registry import TaskInfo
    from eval.runner import Subject
    from negclip_core.clip import Clip
    from pipelines.host import Host

__all__ = ["Studio"]

_DRAWN = 2000  # pictures of the drawn world, for tasks that are given no data


class Studio:
    """Loads what the tasks of a run need, each thing once."""

    def __init__(
        self,
        clip: str,
        model: str,
        lora: str | None,
        device: str,
        arms: "list[ArmName]",
        options: dict[str, Any],
        out: Path,
        quiet: bool,
        own: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """`options` are for all tasks; `own`, by a task's name, are its own, where `options` has None."""
        self.clip, self.model, self.lora, self.device = clip, model, lora, device
        # What one kind computes is not, to the last bit, what another does.
        self.device_kind = device.split(":")[0]
        self.arms, self.given, self.out, self.quiet = arms, options, out, quiet
        self.own = own or {}
        self.made_with: dict[str, Any] = {}
        self._host: Host | None = None
        self._features: dict[Any, Any] = {}

    def drawn_data(self) -> Path:
        """The drawn world's held-out pictures, phrases and prompts, drawn here if they are not there yet."""
        from pipelines.miniature import export

        split = self.given["split"]
        folder = self.out / "drawn" / split
        if not (folder / export.LAST).exists():
            export.run(folder, _DRAWN, 0, split, self.quiet)
        return folder

    def host(self) -> "Host":
        from pipelines.host import load_host

        self._host = self._host or load_host(self.model, self.device, self.quiet, self.lora)
        return self._host

    def chosen(self, task: str) -> dict[str, Any]:
        """The options that were chosen for a task."""
        given = {name: value for name, value in self.given.items() if value is not None}
        return self.own.get(task, {}) | given

    def options(self, info: "TaskInfo") -> "Options":
        from eval.options import Options

        given = self.chosen(info.name)
        if info.kind == "generation":
            given.setdefault("steps", self.host().default("steps", "num_inference_steps"))
            given.setdefault("guidance_scale", self.host().default("guidance_scale", "guidance_scale"))
        return Options(**given)

    def subjects(self, info: "TaskInfo") -> "list[Subject]":
        """The arms that suit a task, each with what it runs on."""
        arms = [arm for arm in self.arms if suits(arm, info.kind)]
        for arm in self.arms:
            if arm not in arms:
                warn(
                    f"arm {arm.name} is none for tasks of {info.kind}; {info.name} leaves it out", self.quiet
                )
        if info.kind == "generation":
            return self._painters(info, arms)
        return self._finders(arms) if info.kind == "segmentation" else self._encoders(arms)

    def _encoders(self, arms: "list[ArmName]") -> "list[Subject]":
        from eval.arms import VANILLA, clip_source, parse_arms
        from eval.blind import blind_scorer
        from eval.encoders import Encoder
        from eval.rivals import Rival
        from eval.runner import Subject
        from negclip_core.clip import Clip, load_clip

        base = load_clip(clip_source(parse_arms(VANILLA)[0], self.clip).source, device=self.device)

        def subject(arm: "ArmName", clip: Clip) -> Subject:
            settings = {"clip": clip.sha256, "device": self.device_kind}
            if arm.rival is None:
                return Subject(arm.name, settings, lambda _: Encoder(arm.name, clip, self._features))
            rival = Rival(arm.name, clip, arm.rival, arm.swaps, self._features)
            return Subject(arm.name, {**settings, "rival": arm.rival, "tuned": arm.swaps}, lambda _: rival)

        def blind(name: str) -> Subject:
            settings: dict[str, Any] = {"clip": None}
            if name == "blind-text":
                settings = {"clip": base.sha256, "device": self.device_kind}
            return Subject(name, settings, lambda _: blind_scorer(name, base, self.given["seed"]))

        subjects = []
        for arm in arms:
            if arm.blind:
                subjects.append(blind(arm.name))
                continue
            source = clip_source(arm, self.clip)
            loaded = (
                base
                if arm.source is None and not arm.swaps
                else load_clip(source.source, source.architecture, self.device, base=base)
            )
            self.made_with[f"clip of {arm.name}"] = {"source": source.source, "sha256": loaded.sha256}
            subjects.append(subject(arm, loaded))
        return subjects

    def _painters(self, info: "TaskInfo", arms: "list[ArmName]") -> "list[Subject]":
        from integrations.stable_diffusion import slots_of

        judges = self._judges(self.options(info).judge)
        host = self.host()
        self.made_with["model"] = {"source": self.model, "lora": self.lora, "sha256": host.sha256}
        own = getattr(host.pipe, slots_of(host.pipe)[0].module).config
        return [self._painter(arm, self._encoder(arm, own), judges) for arm in arms]

    def _judges(self, names: str) -> "list[Judge]":
        """The judge, or the two, of `--judge`."""
        from eval.agreement import needs_statsmodels
        from eval.judges import load_judge
        from negclip_core.errors import RequestError
        from pipelines.host import hush

        hush(self.quiet)
        sources = [name.strip() for name in names.split(",")]
        if len(sources) > 2 or len(set(sources)) < len(sources):
            raise RequestError(f"--judge {names}: expected a judge, or two different ones with a comma")
        if len(sources) == 2:
            needs_statsmodels()
        judges = [load_judge(source, self.device) for source in sources]
        for key, source, judge in zip(("judge", "second judge"), sources, judges, strict=False):
            self.made_with[key] = {"source": source, "sha256": judge.version}
        return judges

    def _encoder(self, arm: "ArmName", own: Any) -> "Clip | None":
        """The text encoder that an arm swaps in where a host's own has the configuration `own`."""
        from negclip_core.clip import load_clip
        from negclip_core.models import text_encoder_for

        if not arm.swaps:
            return None
        source = arm.source or text_encoder_for(self.model, own.hidden_size, own.num_hidden_layers)
        encoder = load_clip(source.source, source.architecture, self.device)
        self.made_with[f"text encoder of {arm.name}"] = {"source": source.source, "sha256": encoder.sha256}
        return encoder

    def _painter(self, name: "ArmName", encoder: Any, judges: "list[Judge]") -> "Subject":
        from eval.generation import Painter
        from eval.runner import Subject
        from integrations.arms import Arm
        from integrations.methods import find_method

        host = self.host()
        arm = Arm(name.name, find_method(name.method), encoder, name.gate)
        arm.check(host.pipe)
        settings = {
            "model": host.sha256, "judge": "+".join(judge.version for judge in judges), "method": name.method, "gate": name.gate, "rest": name.rest,
            "text_encoder": encoder.sha256 if encoder else None, "device": self.device_kind,
        }  # fmt: skip

        def make(key: str) -> Painter:
            folder = f"images/{key}"
            return Painter(
                name.name, arm, host.pipe, self.model, judges[0], self.out, folder, name.rest, *judges[1:]
            )

        return Subject(name.name, settings, make)

    def _finders(self, arms: "list[ArmName]") -> "list[Subject]":
        from eval.runner import Subject
        from integrations.clipseg import check_fit
        from integrations.referring import PROPOSED, Finder
        from negclip_core.clip import load_clip
        from negclip_core.files import sha256_file
        from negclip_core.models import segmenter_of, text_encoder_for
        from pipelines.segmenter import load_sam_model, load_segmenter, sam_file

        clipseg, sam = segmenter_of(self.model)
        segmenter = load_segmenter(clipseg, self.device, self.quiet)
        self.made_with["segmenter"] = {"source": clipseg, "sha256": segmenter.sha256}
        own, ways = segmenter.model.config.text_config, {arm.way for arm in arms}
        sharpener = sam_sum = looker = None
        if ways - {None}:
            sharpener, sam_sum = load_sam_model(sam, self.device), sha256_file(sam_file(sam))
            self.made_with["segment anything"] = {"source": sam, "sha256": sam_sum}
        if PROPOSED in ways:
            # The image tower that all arms share, NegationCLIP's being the model's own.
            source = text_encoder_for(self.model, own.hidden_size, own.num_hidden_layers)
            looker = load_clip(source.source, source.architecture, self.device)
            self.made_with["image tower of proposals"] = {"source": source.source, "sha256": looker.sha256}

        def subject(arm: "ArmName") -> Subject:
            encoder = self._encoder(arm, own)
            if encoder is not None:
                check_fit(segmenter.model, segmenter.processor.tokenizer, encoder)
            settings = {
                "segmenter": segmenter.sha256, "gate": arm.gate, "sam": sam_sum if arm.way else None, "way": arm.way,
                "text_encoder": encoder.sha256 if encoder else None, "device": self.device_kind,
            }  # fmt: skip
            if looker is not None and arm.way == PROPOSED:
                settings["looker"] = looker.sha256
            finder = Finder(arm.name, segmenter, encoder, arm.gate, sharpener, arm.way, looker)
            return Subject(arm.name, settings, lambda _: finder)

        return [subject(arm) for arm in arms]

    def settings(self, data: Path | None) -> dict[str, Any]:
        """What made the figures, for the report."""
        from negclip_core.files import provenance

        chosen = {name: value for name, value in self.given.items() if value is not None}
        own = {"own options": self.own} if self.own else {}
        drawn = str(data) if data else "the drawn world's held-out split"
        return {"data": drawn, "options": chosen, **own, **self.made_with, "made_by": provenance()}
