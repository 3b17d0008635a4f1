"""What is read of one image file: the pixels that every viewer shows, or why it is not read."""

import io
import struct
import warnings
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

import helpers
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.decoding import Unreadable, decode
from gpt2v.data.tiles.load import load_bank

ORIENTATION = 0x112
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def noise(size=(16, 16), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def file_of(picture, kind="PNG", **options):
    """The bytes of an image file, from a picture or its pixels."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return {"exif": exif}


def chunk(name, content):
    """A chunk of a PNG file."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def with_chunk(blob, name, content):
    """A PNG file with one more chunk after its header."""
    return blob[:33] + chunk(name, content) + blob[33:]


def why_not(blob):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unreadable) as caught:
            decode(blob, 16)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- orientation -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("value", range(10))
def test_pictures_are_read_upright_whatever_their_orientation(kind, value):
    """Pillow's own function is the reference; other values than 1 to 8 mean upright."""
    pixels = noise((16, 16))
    blob = file_of(pixels, kind, **LOSSLESS[kind], **turned(value))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(blob)))
    tile = decode(blob, 16)
    np.testing.assert_array_equal(tile, np.asarray(expected.convert("RGB")))
    assert (tile != pixels).any() == (2 <= value <= 8)


@pytest.mark.parametrize("value", [3, 6, 8])
def test_photographs_are_turned_before_they_are_made_square(value):
    """A quarter turn swaps the sides of a JPEG that is not square."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5] = 250  # the top of what the sensor saw
    blob = file_of(pixels, "JPEG", quality=95, **turned(value))
    top, right, bottom, left = (
        float(part.mean())
        for part in (lambda t: (t[:3], t[:, -3:], t[-3:], t[:, :3]))(decode(blob, 16))
    )
    bright = {3: bottom, 6: right, 8: left}[value]
    assert bright == max(top, right, bottom, left) > 200


def test_grey_and_palette_pictures_are_turned_too():
    for mode in ("L", "P", "1"):
        picture = Image.fromarray(noise()).convert(mode)
        expected = np.rot90(np.asarray(picture.convert("RGB")), -1)
        np.testing.assert_array_equal(decode(file_of(picture, **turned(6)), 16), expected)


@pytest.mark.parametrize("source", ["folder", "cifar10"])
def test_every_source_reads_pictures_upright(tmp_path, source):
    rows = [(file_of(noise(seed=i), **turned(6)), i % 2) for i in range(40)]
    if source == "folder":
        for i, (blob, label) in enumerate(rows):
            (tmp_path / "ab"[label]).mkdir(exist_ok=True)
            (tmp_path / "ab"[label] / f"{i}.png").write_bytes(blob)
    else:
        for part, some in (("train", rows[:30]), ("test", rows[30:])):
            columns = {
                "img": [{"bytes": blob, "path": ""} for blob, _ in some],
                "label": [label for _, label in some],
            }
            features = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}
            info = f'{{"info": {{"features": {features}}}}}'.replace("'", '"')
            table = pa.table(columns).replace_schema_metadata({"huggingface": info})
            pq.write_table(table, tmp_path / f"{part}-0.parquet")
    bank = load_bank(TilesConfig(source=source, path=str(tmp_path), size=16))
    expected = {np.rot90(noise(seed=i), -1).tobytes() for i in range(40)}
    assert {tile.tobytes() for tile in bank.take(helpers.all_tiles(bank))} == expected


@given(st.integers(0, 2**32 - 1))
def test_pictures_without_metadata_are_read_as_they_are(seed):
    rng = np.random.default_rng(seed)
    pixels = noise(rng.integers(1, 40, 2), seed)
    expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(decode(file_of(pixels, kind), 16), np.asarray(expected))


# ---- colours -----------------------------------------------------------------------------------


def swapped():
    """A colour profile in which red and green have changed places."""
    return SRGB.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_another_colour_profile_is_refused_and_that_of_srgb_is_read(kind):
    pixels = noise()
    plain, same, other = (
        file_of(pixels, kind, **({} if profile is None else {"icc_profile": profile}))
        for profile in (None, SRGB, swapped())
    )
    np.testing.assert_array_equal(decode(same, 16), decode(plain, 16))
    assert "colour profile 'sRGB built-in'; convert it to sRGB" in why_not(other)


def test_grey_pictures_are_checked_with_grey():
    """Swapped primary colours do not change grey; a damaged profile is refused."""
    grey = Image.fromarray(noise()).convert("L")
    np.testing.assert_array_equal(
        decode(file_of(grey, icc_profile=swapped()), 16), np.asarray(grey.convert("RGB"))
    )
    assert why_not(file_of(noise(), icc_profile=b"no profile"))


@pytest.mark.parametrize(
    ("name", "content", "is_read"),
    [
        (b"gAMA", struct.pack(">I", 45455), True),
        (b"gAMA", struct.pack(">I", 100000), False),
        (b"gAMA", struct.pack(">I", 55556), False),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), True),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000), False),
    ],
)
def test_png_files_with_another_gamma_or_other_primary_colours_are_refused(name, content, is_read):
    pixels = noise()
    blob = with_chunk(file_of(pixels), name, content)
    if is_read:
        np.testing.assert_array_equal(decode(blob, 16), pixels)
    else:
        assert "not those of sRGB" in why_not(blob)
        told = with_chunk(blob, b"sRGB", b"\0")  # this chunk comes before the others
        np.testing.assert_array_equal(decode(told, 16), pixels)


@pytest.mark.parametrize(("values", "is_read"), [((1, 13, 0, 1), True), ((12, 13, 0, 1), False)])
def test_colours_that_a_png_file_names_by_number_come_first(values, is_read):
    """The chunk cICP, of PNG's third edition."""
    pixels = noise()
    blob = with_chunk(file_of(pixels, icc_profile=SRGB), b"cICP", bytes(values))
    if is_read:
        np.testing.assert_array_equal(decode(blob, 16), pixels)
    else:
        assert "colours by cICP [12, 13, 0, 1]; convert it to sRGB" in why_not(blob)


@pytest.mark.parametrize(
    ("space", "index", "is_read"),
    [(1, "R98", True), (65535, None, True), (65535, "R03", False), (2, None, False)],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cameras_name_adobe_rgb_in_exif_data(kind, space, index, is_read):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space} | ({0xA005: {1: index}} if index else {})
    blob = file_of(noise(), kind, exif=exif.tobytes())
    if is_read:
        decode(blob, 16)
    else:
        assert "colours of Adobe RGB by its EXIF data" in why_not(blob)
        decode(file_of(noise(), kind, exif=exif.tobytes(), icc_profile=SRGB), 16)


@pytest.mark.parametrize("content", [b"nothing of the kind", b"MM\0\x2a", b""])
def test_damaged_exif_data_change_nothing(content):
    blob = file_of(noise(), "JPEG", exif=b"Exif\0\0" + content)
    np.testing.assert_array_equal(decode(blob, 16), decode(file_of(noise(), "JPEG"), 16))


def bitmap(profile, kind=b"DEBM"):
    """A BMP file of version 5, with a colour profile."""
    pixels = file_of(noise(), "BMP")[54:]
    header = struct.pack("<IiiHHIIiiII", 124, 16, 16, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += bytes(16) + kind + bytes(48)
    header += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    size = 14 + 124 + len(pixels) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 138) + header + pixels + profile


def test_colour_profiles_of_bmp_and_gif_files():
    np.testing.assert_array_equal(decode(bitmap(SRGB), 16), noise())
    np.testing.assert_array_equal(decode(bitmap(b"", kind=b"BGRs"), 16), noise())
    assert "colour profile 'sRGB built-in'" in why_not(bitmap(swapped()))
    assert "its colour profile cannot be used" in why_not(bitmap(b"profile.icc", kind=b"KNIL"))
    plain = file_of(Image.fromarray(noise()).convert("P"), "GIF")
    for profile in (SRGB, swapped()):
        parts = [profile[i : i + 255] for i in range(0, len(profile), 255)]
        block = b"".join(bytes([len(part)]) + part for part in parts)
        at = plain.index(b",", 13 + 768)  # before the picture
        blob = plain[:at] + b"\x21\xff\x0bICCRGBG1012" + block + b"\0" + plain[at:]
        if profile == SRGB:
            np.testing.assert_array_equal(decode(blob, 16), decode(plain, 16))
        else:
            assert "colour profile 'sRGB built-in'" in why_not(blob)


def test_primary_colours_of_a_tiff_file():
    white = {318: (0.3127, 0.329)}
    same = file_of(noise(), "TIFF", tiffinfo={**white, 319: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)})
    np.testing.assert_array_equal(decode(same, 16), noise())
    other = file_of(noise(), "TIFF", tiffinfo={**white, 319: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)})
    assert "not those of sRGB" in why_not(other)


# ---- bits, frames and sizes --------------------------------------------------------------------


def test_one_bit_is_exact_and_sixteen_are_refused():
    for kind in ("PNG", "TIFF", "BMP", "GIF", "PPM"):
        picture = Image.fromarray(noise()).convert("1")
        np.testing.assert_array_equal(
            decode(file_of(picture, kind), 16), np.asarray(picture.convert("RGB"))
        )
    deep = noise((16, 16)).astype(">u2") * 257 + 1
    raw = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw))
    ppm = b"P6 16 16 65535\n" + deep.tobytes()
    for blob in (png + chunk(b"IEND", b""), ppm):
        assert "16 bits in each channel; convert it to 8 bits" in why_not(blob)


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_animations_and_pages_are_refused_and_one_frame_is_read(kind, options):
    pixels = noise()
    others = [Image.fromarray(noise(seed=1))]
    blob = file_of(pixels, kind, save_all=True, append_images=others, **options)
    assert "2 frames or pages; keep one" in why_not(blob)
    picture = Image.fromarray(pixels).convert("P")
    one = file_of(picture if kind == "GIF" else pixels, kind, **options)
    expected = picture.convert("RGB") if kind == "GIF" else pixels
    np.testing.assert_array_equal(decode(one, 16), np.asarray(expected))


@pytest.mark.parametrize(
    "blob",
    [
        b"P1\n# a comment\n3 2\n010\n1 0 1\n",
        b"P2 3 2 255 0 1 2 3 4 5\n",
        b"P3 1 2 15 0 1 2 3 4 5\n",
        b"P4 3 2\n\x40\xa0",
        b"P5 3 2 255\n012345",
        b"P5 3 2 100\n012345",
        b"P6 1 2 255\n012345",
    ],
)
def test_files_of_the_ppm_family_hold_one_picture(blob):
    expected = np.asarray(Image.open(io.BytesIO(blob)).convert("RGB").resize((16, 16)))
    np.testing.assert_array_equal(decode(blob, 16), expected)
    np.testing.assert_array_equal(decode(blob + b"\n", 16), expected)
    assert "another picture follows the first" in why_not(blob + blob)


def test_a_frame_that_does_not_fill_a_gif_is_refused():
    blob = bytearray(file_of(Image.fromarray(noise()).convert("P"), "GIF"))
    blob[6:10] = struct.pack("<HH", 20, 20)  # the size of the screen
    assert "does not fill it" in why_not(bytes(blob))


def test_the_first_picture_of_a_camera_s_file_is_the_photograph():
    """MPO: a JPEG with a preview behind it, which no viewer shows."""
    first, second = (Image.fromarray(noise(seed=i)) for i in range(2))
    blob = file_of(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(blob, 16), decode(file_of(first, "JPEG"), 16))


def test_other_modes_and_formats_are_refused():
    pixels = noise()
    assert "mode CMYK" in why_not(file_of(Image.fromarray(pixels).convert("CMYK"), "TIFF"))
    assert "mode LA" in why_not(file_of(Image.fromarray(pixels).convert("LA")))
    palette = Image.fromarray(pixels).convert("P")
    assert "mode P with transparency" in why_not(
        file_of(palette, "GIF", transparency=palette.getpixel((3, 3)))
    )
    for blob in (
        file_of(pixels, "ICO", sizes=[(16, 16)]),
        file_of(pixels, "JPEG2000"),
        file_of(pixels, "EPS"),
        b"",
        b"GIF89a",
    ):
        line = why_not(blob)
        assert "no picture in a format that is read: BMP, GIF, JPEG, PNG" in line


def test_a_pointer_of_git_lfs_is_named():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert "a pointer of Git LFS, not the data; run git lfs pull" in why_not(pointer)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_truncated_files_are_refused_or_read_whole(kind):
    pixels = noise()
    blob = file_of(Image.fromarray(pixels).convert("P") if kind == "GIF" else pixels, kind)
    whole = decode(blob, 16)
    for cut in (1, 2, 8, 30, 100, len(blob) // 2):
        try:
            tile = decode(blob[:-cut], 16)
        except Unreadable:
            continue
        np.testing.assert_array_equal(tile, whole)  # e.g. only the end mark is missing
    assert why_not(blob[: len(blob) // 2])


def test_pictures_without_pixels_and_with_far_too_many_are_refused():
    def header(width, height):
        return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))

    start, end = b"\x89PNG\r\n\x1a\n", chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    for width, height in ((0, 5), (5, 0)):
        assert why_not(start + header(width, height) + end)
    for side in (10_000, 20_000, 2**31 - 1):  # 100 and 400 million pixels
        assert "decompression bomb" in why_not(start + header(side, side) + end)


def test_a_picture_of_any_shape_becomes_a_square():
    """As the documentation says: a wide picture is squeezed."""
    wide = np.zeros((4, 4000, 3), np.uint8)
    wide[:, 2000:] = 200
    tile = decode(file_of(wide), 16)
    assert tile.shape == (16, 16, 3)
    assert (tile[:, :7] == 0).all()
    assert (tile[:, 10:] == 200).all()
