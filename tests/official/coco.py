"""COCO: a folder of pictures, and its captions in `annotations/` beside it; five captions a picture."""

from pathlib import Path

from PIL import Image

from official import parts

NAMES = {"val2014": "COCO_val2014_{:012d}.jpg", "val2017": "{:012d}.jpg"}


def write(root: Path, name: str, count: int = 40) -> Path:
    """The folder `root/name` of val2014 or val2017; its pictures are listed in no order."""
    folder = root / name
    folder.mkdir(parents=True)
    content = {
        "info": {"description": f"COCO {name[-4:]} Dataset", "version": "1.0", "year": int(name[-4:])},
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}],
        "images": [],
        "annotations": [],
    }
    for i in range(count):
        image_id = 1000 - 7 * i
        file = NAMES[name].format(image_id)
        Image.new("RGB", (48 + i % 3, 40), (6 * i, 100, 255 - 6 * i)).save(folder / file)
        address = f"http://images.cocodataset.org/{name}/{file}"
        content["images"].append(
            {"license": 4, "file_name": file, "coco_url": address, "height": 40, "width": 48 + i % 3, "id": image_id}
        )
        for k in range(5):  # some of the official captions end in spaces and line breaks
            caption = {"image_id": image_id, "id": 10 * image_id + k, "caption": f"Caption {k} of {image_id}. \n"}
            content["annotations"].append(caption)
    parts.text(root / "annotations" / f"captions_{name}.json", content)
    return folder
