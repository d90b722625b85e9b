"""Reads Pascal VOC XML: one file per image."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

from od_eval import files
from od_eval.data.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Remark,
    categories_of,
    number,
    size_or_none,
)
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError


def read_voc(folder: files.Path, images: ImageFolder) -> Annotations:
    """Reads the XML files below a folder.

    The image of an XML file is the one with the same name ("7.xml", "7.jpg"); if there is none, the one given by its
    `<filename>`. `<path>` and `<folder>` refer to the computer on which it was annotated and are ignored.

    Coordinates are not changed, as in the Object Detection API's own converter: VOC counts pixels from 1, while most
    tools that write VOC XML count from 0.

    Args:
      folder: the folder of the XML files, or the root of a dataset with VOC's layout, which has them in `Annotations`;
        on any file system.
      images: the folder of the image files.

    Returns:
      The annotations, with ids from 1 for the class names in alphabetical order.

    Raises:
      ODEvalError: there is no XML file, or the folder cannot be read.
    """
    folder = os.fspath(folder)
    try:
        if files.is_folder(os.path.join(folder, "Annotations")):
            folder = os.path.join(folder, "Annotations")
        names = [name for name in files.dataset_files_below(folder) if name.endswith(".xml")]
    except OSError as error:
        raise ODEvalError(f"annotation folder '{folder}' cannot be read: {files.reason(error)}.") from error
    if not names:
        raise ODEvalError(f"there is no XML file in '{folder}'; set annotations to the folder of VOC's XML files.")
    annotated: list[AnnotatedImage] = []
    remarks: list[Remark] = []
    lost: Counter[str] = Counter()
    for name in sorted(names, key=lambda name: name.split("/")):
        path = os.path.join(folder, name)
        try:
            root = _parse(files.read_bytes(path))
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # the last two: encodings
            remarks.append(Remark("XML unreadable", path, str(error), "image"))
            continue
        if root.tag != "annotation":
            remarks.append(Remark("XML unreadable", path, f"<{root.tag}> is not Pascal VOC's <annotation>", "image"))
            continue
        try:
            filename = _find_image(name, _text(root, "filename"), images)
        except ImageNotFound as error:
            remarks.append(Remark(error.reason, path, str(error), "image"))
            lost.update(_text(element, "name") for element in root.findall("object"))
            continue
        size = size_or_none(_text(root, "size/width"), _text(root, "size/height"))
        objects = [
            _read_object(element, f"{path}: object {index}")
            for index, element in enumerate(root.findall("object"), start=1)
        ]
        annotated_as = _text(root, "filename") or filename
        annotated.append(AnnotatedImage(images.path(filename), filename, annotated_as, filename, size, objects, path))
    return Annotations(annotated, categories_of(annotated), remarks=remarks, lost=lost)


def _parse(content: bytes) -> ElementTree.Element:
    """The root of an XML file in any encoding that Python knows; expat itself knows few.

    Raises:
      ElementTree.ParseError, ValueError, LookupError: it cannot be parsed, decoded, or the encoding is unknown.
    """
    declared = re.match(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"'][^>]*?\?>", content)
    if declared is None:
        return ElementTree.fromstring(content)
    encoding = declared[1].decode().lower()
    if encoding in ("utf-8", "utf8", "us-ascii", "ascii") or encoding.startswith(("utf-16", "iso-8859-1")):
        return ElementTree.fromstring(content)
    # Files that say GB2312 have characters of its successors.
    text = content[declared.end() :].decode("gb18030" if encoding in ("gb2312", "gbk") else encoding)
    return ElementTree.fromstring(text)


def _find_image(xml_name: str, filename: str, images: ImageFolder) -> str:
    # The XML file's own name first: annotation files are renamed together with their images, but their contents are not
    # updated; at worst, all of them contain the same file name.
    try:
        return images.find(os.path.splitext(xml_name)[0])
    except ImageNotFound:
        if not filename:
            raise
        return images.find(filename)


def _read_object(element: ElementTree.Element, where: str) -> AnnotatedObject:
    difficult, truncated = _text(element, "difficult"), _text(element, "truncated")
    left, top, right, bottom = (number(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return AnnotatedObject(
        _text(element, "name"),
        (left, top, right, bottom),
        where,
        difficult=difficult == "1",
        truncated=truncated == "1",
        pose=_text(element, "pose"),
    )


def _text(element: ElementTree.Element, path: str) -> str:
    """The text at `path` below `element`, without surrounding spaces; "" if there is none."""
    return (element.findtext(path) or "").strip()
