"""The page in a real browser: what a person does with it, and pictures of it.

    pip install playwright
    tcm-jax demo --port 8000
    python -m tests.demo.in_browser --chromium PATH --port 8000 --pictures DIR

PATH is a Chromium (`playwright install chromium` downloads one). It drops, chooses and pastes photos, moves the
controls, copies, downloads, and gives files that can't be read. It fails if the page doesn't show what the server
answers, asks another host, or logs an error. DIR gets pictures of the page: light, dark, with the score map, and as
wide as a phone.
"""

import argparse
import base64
import io
import json
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.demo.uploads import post

EXAMPLE = Path(__file__).parents[2] / "docs" / "example.jpg"
_SECONDS = 300_000  # milliseconds that a photo may take

_GIVE = """([how, data, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
    const options = { bubbles: true, cancelable: true };
    if (how === "paste") document.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
    else for (const kind of ["dragenter", "dragover", "drop"])
        document.getElementById("drop").dispatchEvent(new DragEvent(kind, { ...options, dataTransfer: transfer }));
}"""


def give(page: Page, how: str, data: bytes, name: str) -> None:
    """Drops ("drop") or pastes ("paste") a file."""
    page.evaluate(_GIVE, [how, base64.b64encode(data).decode(), name])


def turned() -> bytes:
    """The example, stored lying on its side, with EXIF data that say so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.open(EXAMPLE).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def open_page(browser: Browser, url: str, width: int = 1280, height: int = 800, scheme: str = "light"):
    """A page whose requests to other hosts and errors are collected in a list."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda asked: None if url in asked.url or asked.url[:5] == "data:" else problems.append(asked.url)
    )
    page.goto(url)
    expect(page.locator("#limit")).to_contain_text("MB")
    return page, problems


def shown(page: Page, name: str, words: list[dict]) -> None:
    """Waits until these words of a photo are there."""
    expect(page.locator("#status")).to_contain_text(f"{name}: {len(words)} word", timeout=_SECONDS)
    expect(page.locator("#waiting")).to_be_hidden()
    texts = page.locator(".word:visible").evaluate_all("words => words.map((word) => word.firstChild.data)")
    assert texts == [word["text"] for word in words]
    assert page.locator("#polygons polygon:visible").count() == len(words)


def use(page: Page, words: list[dict]) -> None:
    """What a person does; `words` are those of the example."""
    give(page, "drop", EXAMPLE.read_bytes(), "example.jpg")
    shown(page, "example.jpg", words)

    page.click("#copy")
    expect(page.locator("#status")).to_have_text("The text is in the clipboard.")
    lines = [[word["text"] for word in words if word["line"] == line] for line in {word["line"]: 0 for word in words}]
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(map(" ".join, lines))
    page.locator(".word").nth(1).focus()
    expect(page.locator("polygon.lit")).to_have_count(1)
    expect(page.locator("#label")).to_have_text(words[1]["text"])
    page.locator("#polygons polygon").first.hover()
    expect(page.locator(".word.lit")).to_contain_text(words[0]["text"])

    best = max(word["score"] for word in words)
    page.fill("#minimum", f"{int(100 * best) / 100}")
    kept = [word for word in words if word["score"] >= int(100 * best) / 100]
    expect(page.locator("#count")).to_contain_text(f"{len(kept)} word")
    with page.expect_download() as download:
        page.click("#download")
    saved = json.loads(download.value.path().read_bytes())
    assert (download.value.suggested_filename, saved["image"], saved["words"]) == ("example.json", "example.jpg", kept)
    page.fill("#minimum", "0.3")
    expect(page.locator("#map")).to_be_hidden()
    page.check("#show-map")
    expect(page.locator("#map")).to_be_visible()
    page.uncheck("#show-map")

    page.set_input_files("#file", {"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": turned()})
    expect(page.locator("#status")).to_contain_text("turned.jpg: ", timeout=_SECONDS)
    assert page.get_attribute("#photo", "viewBox") == "0 0 640 480"
    corner = page.locator("#polygons polygon").first.evaluate("p => [p.getBBox().x, p.getBBox().y]")
    expected = [min(point[axis] for point in words[0]["polygon"]) for axis in (0, 1)]
    assert max(abs(a - b) for a, b in zip(corner, expected, strict=True)) < 8, (corner, expected)

    give(page, "drop", b"no image", "notes.txt")
    expect(page.locator("#error")).to_contain_text(
        "notes.txt: this image can't be read: not a readable", timeout=_SECONDS
    )
    give(page, "drop", bytes(20_000_001), "long.mov")
    expect(page.locator("#error")).to_have_text("long.mov has 20 MB; at most 20 MB are accepted.")
    give(page, "paste", EXAMPLE.read_bytes(), "pasted.jpg")
    shown(page, "pasted.jpg", words)
    expect(page.locator("#error")).to_be_hidden()
    page.click("#example")
    expect(page.locator("#status")).to_contain_text("example.png: ", timeout=_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", required=True, metavar="PATH")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{options.port}/"
    found = post(options.port, EXAMPLE.read_bytes())[1]["photo"]["words"]
    words = [word for word in found if word["score"] >= 0.3]
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", offline])
        page, problems = open_page(browser, url)
        use(page, words)
        # The browser logs the status of the file that is no image.
        assert [p for p in problems if "400 (Bad Request)" not in p and not p.startswith("blob:" + url)] == [], problems
        for name, width, height, scheme in (
            ("light", 1280, 800, "light"),
            ("dark", 1280, 800, "dark"),
            ("phone", 390, 844, "light"),
        ):
            page, problems = open_page(browser, url, width, height, scheme)
            page.screenshot(path=options.pictures / f"{name}-empty.png")
            give(page, "drop", EXAMPLE.read_bytes(), "example.jpg")
            shown(page, "example.jpg", words)
            page.screenshot(path=options.pictures / f"{name}.png")
            page.check("#show-map")
            page.locator(".word").nth(1).hover()
            page.screenshot(path=options.pictures / f"{name}-map.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    print(f"All is as it should be; pictures are in {options.pictures}")


if __name__ == "__main__":
    main()
