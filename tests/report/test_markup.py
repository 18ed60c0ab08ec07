"""Parts of a page: every text is escaped, wherever it stands."""

from xml.etree import ElementTree

from dae_ssl.report.markup import document, missing, picture, tag


def test_texts_stand_between_elements_in_their_order_and_are_escaped() -> None:
    shown = tag("p", "1 < 2", tag("b", "&"), " and ", "more", class_="note")
    assert ElementTree.tostring(shown) == b'<p class="note">1 &lt; 2<b>&amp;</b> and more</p>'


def test_what_is_missing_is_marked() -> None:
    assert ElementTree.tostring(missing("gone")) == b'<span class="missing">gone</span>'


def test_picture_is_embedded_with_what_it_shows_in_words() -> None:
    shown = ElementTree.tostring(picture(b"GIF", alt='"quoted"', caption="c", width=7))
    assert b'src="data:image/png;base64,R0lG" alt="&quot;quoted&quot;" width="7"' in shown
    assert b"<figcaption>c</figcaption>" in shown


def test_document_is_html_with_its_title_and_its_style_inside() -> None:
    page = document("a & b", tag("p", "text"))
    assert page.startswith(b'<!DOCTYPE html>\n<html lang="en">')
    assert b"<title>a &amp; b</title><style>" in page
    assert b"<p>text</p>" in page
