"""What P1 costs with models in every role: calls, tokens and pictures per caption read and per caption written.

    python bench/synthesis_cost.py CAPTIONS INSTANCES IMAGES [PROPOSALS]

A fake endpoint (tests/fake_endpoint.py) proposes, sees what the instances say, and rewrites. Tokens are those of CLIP's
tokenizer over the prompts sent and the answers read, without a chat template's; a picture's depend on the model.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from open_clip.tokenizer import SimpleTokenizer

from negclip_core.captions.endpoint import Endpoint
from negclip_core.captions.prompts import Prompt
from pipelines import synthesize

_ROOT = Path(__file__).parents[1]
_TOKENIZER = SimpleTokenizer()


class Counting(Endpoint):
    """An endpoint that adds up what is asked of it, by the name of the answer that is asked for."""

    totals: ClassVar[Counter[tuple[str, str]]] = Counter()

    async def ask(self, prompt: Prompt, words: Mapping[str, str], seed: int, picture: str = "") -> str:
        """See `Endpoint`; the answer is counted as the JSON that it came in."""
        self.totals[prompt.key, "calls"] += 1
        said = [message["content"] for message in prompt.messages(words)]
        self.totals[prompt.key, "prompt_tokens"] += sum(len(_TOKENIZER.encode(text)) for text in said)
        self.totals[prompt.key, "pictures"] += bool(picture)
        answer = await super().ask(prompt, words, seed, picture)
        self.totals[prompt.key, "answer_tokens"] += len(_TOKENIZER.encode(json.dumps({prompt.key: answer})))
        return answer


def main(captions: Path, instances: Path, images: Path, proposals: int = 1) -> None:
    """Print one JSON document."""
    import negclip_core.captions.endpoint as module

    module.Endpoint = Counting  # type: ignore[misc]
    words = [
        sys.executable,
        str(_ROOT / "tests/fake_endpoint.py"),
        "--instances",
        instances,
        "--images",
        images,
    ]
    server = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            counts = synthesize.run(captions, None, [], "p1", Path(folder) / "out.json", 0, images=images, llm=address,
                                    vlm=address, proposals=proposals)  # fmt: skip
    finally:
        server.terminate()
        server.wait()
    found: dict[str, Any] = {"read": counts["read"], "written": counts["written"], "proposals": proposals}
    for (role, what), number in sorted(Counting.totals.items()):
        found.setdefault(role, {})[what] = round(number / counts["read"], 3)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:5]))
