"""The server of the page: a plugin of TensorBoard that only reads.

Addresses, below `data/plugin/od_eval/`:

    index.html                          the page, a document of its own in TensorBoard's frame
    static/…                            its modules
    index                               JSON: `page_data.index`
    evaluation?run=eval&step=1000       JSON: `page_data.evaluation`
    objects?run=eval&step=1000&type=bbox  binary: `page_data.objects`; with `&image=a.jpg`, of this image only
    suspects?run=eval&step=1000&type=bbox  JSON: `page_data.suspects`
    image?run=eval&step=1000&index=0    JPEG: `page_data.image`
    segmentation?run=eval&step=1000     JSON: `segmentation_data.segmentation`
    segmentation_image?run=eval&step=1000&index=0  JPEG: `segmentation_data.image`
    labels?run=eval&step=1000&index=0   binary: `segmentation_data.labels`, of the same image
    comparison?run=eval&step=1000&other_run=eval&other_step=900&type=bbox  JSON: `page_data.comparison`; A is the other
    history?run=eval&type=bbox          JSON: `page_data.history`

A request names a run that TensorBoard knows, numbers, and an image that the table of objects has; never a path.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import exceptions, wrappers

if TYPE_CHECKING:
    from od_eval.evaluation.object_table import IouType

# Also in the summaries that make the tab appear: `od_eval.tensorboard.tags.PLUGIN`.
NAME = "od_eval"
STATIC = os.path.join(os.path.dirname(__file__), "static")
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
# Beside TensorBoard's own policy, which allows more.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'"
)
_SECONDS_TO_KEEP_IMAGES = 60

Responder = Callable[[wrappers.Request], wrappers.Response]


class DetectionsPlugin(base_plugin.TBPlugin):
    """The page "Detections"."""

    plugin_name = NAME

    def __init__(self, context: base_plugin.TBContext):
        self._logdir = context.logdir
        self._multiplexer = context.multiplexer
        self._data_provider = context.data_provider

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        return base_plugin.FrontendMetadata(es_module_path="/static/tensorboard_frame.js", tab_name="Detections")

    def is_active(self) -> bool:
        return False  # unless there is a summary for this plugin, which TensorBoard looks for itself

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        responders: dict[str, Responder] = {
            "/index": self._index,
            "/evaluation": self._evaluation,
            "/objects": self._objects,
            "/suspects": self._suspects,
            "/image": self._image,
            "/segmentation": self._segmentation,
            "/segmentation_image": self._segmentation_image,
            "/labels": self._labels,
            "/comparison": self._comparison,
            "/history": self._history,
            "/index.html": _file(os.path.join(STATIC, "index.html")),
        }
        for folder, _, names in os.walk(STATIC):
            below = os.path.relpath(folder, STATIC).replace(os.sep, "/").removeprefix(".")
            for name in names:
                if os.path.splitext(name)[1] in (".css", ".js"):
                    responders["/".join(filter(None, ("/static", below, name)))] = _file(os.path.join(folder, name))
        return {route: _app(responder) for route, responder in responders.items()}

    def _index(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        return http_util.Respond(request, json.dumps(page_data.index(self._runs(request))), "application/json")

    def _evaluation(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        sections = page_data.evaluation(self._run_dir(request), _number(request, "step"))
        return http_util.Respond(request, json.dumps(sections), "application/json")

    def _objects(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        table = page_data.objects(
            self._run_dir(request), _number(request, "step"), _iou_type(request), image_id=request.args.get("image")
        )
        return http_util.Respond(request, table, "application/octet-stream")

    def _suspects(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        suspects = page_data.suspects(self._run_dir(request), _number(request, "step"), _iou_type(request))
        return http_util.Respond(request, json.dumps(suspects), "application/json")

    def _image(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        jpeg = page_data.image(self._run_dir(request), _number(request, "step"), _number(request, "index"))
        return _of_image(request, jpeg, "image/jpeg")

    def _segmentation(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import segmentation_data

        content = segmentation_data.segmentation(self._run_dir(request), _number(request, "step"))
        return http_util.Respond(request, json.dumps(content), "application/json")

    def _segmentation_image(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import segmentation_data

        place = self._run_dir(request), _number(request, "step"), _number(request, "index")
        return _of_image(request, segmentation_data.image(*place), "image/jpeg")

    def _labels(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import segmentation_data

        place = self._run_dir(request), _number(request, "step"), _number(request, "index")
        labels = segmentation_data.labels(*place)
        packed = None if labels is None else gzip.compress(labels, compresslevel=1, mtime=0)
        return _of_image(request, packed, "application/octet-stream", "gzip")

    def _comparison(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        other = self._run_dir(request, "other_run"), _number(request, "other_step")
        compared = page_data.comparison(*other, self._run_dir(request), _number(request, "step"), _iou_type(request))
        return http_util.Respond(request, json.dumps(compared), "application/json")

    def _history(self, request: wrappers.Request) -> wrappers.Response:
        from od_eval.plugin import page_data

        objects = page_data.history(self._run_dir(request), _iou_type(request))
        return http_util.Respond(request, json.dumps(objects), "application/json")

    def _run_dir(self, request: wrappers.Request, name: str = "run") -> str:
        run_dir = self._runs(request).get(request.args.get(name, ""))
        if run_dir is None:
            raise exceptions.NotFound("TensorBoard knows no such run.")
        return run_dir

    def _runs(self, request: wrappers.Request) -> dict[str, str]:
        """The folders of the runs that TensorBoard has found below its logdir, or its several ones, by name."""
        if self._multiplexer is not None:
            return self._multiplexer.RunPaths()
        # By default TensorBoard reads event files in another process, for one logdir, and knows only names.
        context, experiment = plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)
        runs = self._data_provider.list_runs(context, experiment_id=experiment)
        return {run.run_name: os.path.join(self._logdir, run.run_name) for run in runs}


def _app(responder: Responder) -> Callable[..., Any]:
    """The WSGI application of an address: GET only; what cannot be given is said in a sentence."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        from od_eval.errors import ODEvalError

        try:
            if request.method not in ("GET", "HEAD"):
                raise exceptions.MethodNotAllowed(["GET", "HEAD"], "The page only reads.")
            return responder(request)
        except exceptions.HTTPException as error:
            message, status = error.description, error.code
        except (ODEvalError, OSError) as error:
            message, status = str(error), exceptions.NotFound.code
        return http_util.Respond(request, message, "text/plain", code=status)

    return app


def _of_image(
    request: wrappers.Request, content: bytes | None, content_type: str, encoding: str | None = None
) -> wrappers.Response:
    """Gives what the run keeps of an image; None if it keeps nothing."""
    if content is None:
        raise exceptions.NotFound("The run does not keep this image.")
    return http_util.Respond(request, content, content_type, content_encoding=encoding, expires=_SECONDS_TO_KEEP_IMAGES)


def _file(path: str) -> Responder:
    """Gives a static file."""

    def respond(request: wrappers.Request) -> wrappers.Response:
        with open(path, "rb") as file:
            content = file.read()
        extension = os.path.splitext(path)[1]
        return http_util.Respond(request, content, _TYPES[extension], headers=[("Content-Security-Policy", _POLICY)])

    return respond


def _number(request: wrappers.Request, name: str) -> int:
    value = request.args.get(name, "")
    # `isdigit` alone also accepts digits of other scripts.
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise exceptions.BadRequest(f"'{name}' must be a whole number.")
    return int(value)


def _iou_type(request: wrappers.Request) -> IouType:
    value = request.args.get("type")
    if value == "bbox":
        return "bbox"
    if value == "segm":
        return "segm"
    raise exceptions.BadRequest("'type' must be bbox or segm.")
