"""A Gradio page on which recordings are transcribed by packs: a Space of the HuggingFace hub, or at home.

python app.py                                   # the packs that lie in packs/ beside this file
S3ROUTER_PACKS="user/prompts es.pack" python app.py     # repositories of packs, packs, experiment folders
"""

from __future__ import annotations

import os
from pathlib import Path

import gradio as gr

import s3router
from s3router.errors import ConfigError, S3RouterError

VARIABLE = "S3ROUTER_PACKS"
AUTO = "auto"
HERE = Path(__file__).parent


def sources() -> list[str]:
    """What `VARIABLE` names, with blanks between, else the packs beside this file.

    Raises:
        ConfigError: there are none.
    """
    found = os.environ.get(VARIABLE, "").split() or [str(path) for path in sorted((HERE / "packs").glob("*.pack"))]
    if not found:
        raise ConfigError(
            f"no packs: put some into {HERE / 'packs'}, or name packs or a repository of them in {VARIABLE}"
        )
    return found


def page(router: s3router.Router) -> gr.Blocks:
    """The page of a router. Its function is ``/transcribe`` of the page's API: (recording, route) -> (text, scores)."""
    routes = list(router.model.transcribing)

    def transcribe(recording: str | None, route: str) -> tuple[str, list[list[str]]]:
        if recording is None:
            raise gr.Error("Record something, or drop a file.")
        try:
            found = router.transcribe(recording, route)
        except S3RouterError as error:
            raise gr.Error(str(error)) from error
        scores = found.scores or {found.route: found.confidence}
        return found.text, [[name, f"{score:.2f}"] for name, score in scores.items()]

    with gr.Blocks(title="s3router") as blocks:
        gr.Markdown(
            f"# One frozen model, {len(routes)} {'route' if len(routes) == 1 else 'routes'}\n"
            "A route is what was learnt for one language: a small file that says which weights are switched off."
        )
        with gr.Row():
            with gr.Column():
                recording = gr.Audio(label="Recording", type="filepath", sources=["upload", "microphone"])
                choices = [AUTO, *routes] if len(routes) > 1 else routes
                route = gr.Dropdown(choices, value=choices[0], label="Route (auto: the surest)")
                button = gr.Button("Transcribe", variant="primary")
            with gr.Column():
                text = gr.Textbox(label="Text", lines=4)
                headers = ["route", "score"]
                scores = gr.Dataframe(label="How sure each route is", headers=headers, interactive=False)
        # one at a time: there is one model
        button.click(transcribe, [recording, route], [text, scores], api_name="transcribe", concurrency_limit=1)
    return blocks


if __name__ == "__main__":
    page(s3router.Router(packs=sources())).launch()
