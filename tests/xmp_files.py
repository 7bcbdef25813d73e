"""Sidecars in the style of photo programs, made by hand: 40 of them."""

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
XMP = "http://ns.adobe.com/xap/1.0/"

# $A: attributes, $E: elements of rdf:Description.
LIGHTROOM = f"""\
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    xmlns:xmp="{XMP}"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
   xmp:CreatorTool="Adobe Photoshop Lightroom Classic 13.2 (Windows)"
   photoshop:SidecarForExtension="CR3" $A
   crs:Version="16.2" crs:Exposure2012="+0.35" crs:Name="a &quot;look&quot; &amp; more">
   $E<dc:subject>
    <rdf:Bag>
     <rdf:li>Zoë</rdf:li>
     <rdf:li>猫 &lt;1&gt;</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li stEvt:action="saved" stEvt:when="2026-01-02T03:04:05Z" stEvt:changed="/;&#xA;x"/>
    </rdf:Seq>
   </xmpMM:History>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DARKTABLE = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="{XMP}"
    xmlns:darktable="http://darktable.sf.net/"
   exif:DateTimeOriginal="2026:01:02 03:04:05.678" $A
   darktable:xmp_version="5" darktable:auto_presets_applied="1" darktable:history_end="2">
   $E<darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="exposure" darktable:enabled="1"
      darktable:params="0000000000000000" darktable:blendop_params="gz11eJxjYGBgkGAAgRNODESDBnsI"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:xmp="{XMP}"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
   digiKam:ColorLabel="4" digiKam:PickLabel="3" MicrosoftPhoto:Rating="75" $A>
   $E<digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>Places/Kraków</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>

<?xpacket end="w"?>"""
CAPTURE_ONE = f"""\
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='XMP Core 5.5.0'>
 <rdf:RDF {RDF.replace('"', "'")}>
  <rdf:Description rdf:about='' xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'>
   <photoshop:City>Łódź</photoshop:City>
  </rdf:Description>
  <rdf:Description rdf:about='' xmlns:xmp='{XMP}' $A>
   $E<xmp:CreatorTool>Capture One 23</xmp:CreatorTool>
  </rdf:Description>
  <rdf:Description rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/'>
   <dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>me</rdf:li></rdf:Alt></dc:rights>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
PROGRAMS = {
    "lightroom": LIGHTROOM,
    "darktable": DARKTABLE,
    "digikam": DIGIKAM,
    "capture one": CAPTURE_ONE,
}
# By name: attributes, elements, and the rating and label that they give.
FORMS: dict[str, tuple[str, str, int, str]] = {
    "nothing": ("", "", 0, ""),
    "zero, attribute": ('xmp:Rating="0"', "", 0, ""),
    "zero, element": ("", "<xmp:Rating>0</xmp:Rating>\n", 0, ""),
    "rated": ('xmp:Rating="3" xmp:MetadataDate="2026-01-02T03:04:05+01:00"', "", 3, ""),
    "rated, element": ("", "<xmp:Rating>2</xmp:Rating>\n<xmp:Label>Red</xmp:Label>\n", 2, "Red"),
    "rejected": ('xmp:Rating="-1"', "<xmp:MetadataDate>2026-01-02</xmp:MetadataDate>", -1, ""),
    "label": ("xmp:Label='Zu prüfen &amp; mehr'", "", 0, "Zu prüfen & mehr"),
    "empty": ('xmp:Rating=" " xmp:Label=""', "", 0, ""),
}


def variants() -> dict[str, tuple[bytes, int, str]]:
    """By name, a sidecar's bytes, its rating and its label."""
    made = {}
    for program, text in PROGRAMS.items():
        for form, (attributes, elements, rating, label) in FORMS.items():
            filled = text.replace("$A", attributes).replace("$E", elements)
            made[f"{program}, {form}"] = (filled.encode(), rating, label)
        rated = text.replace("$A", 'xmp:Rating="0"').replace("$E", "")
        # Another prefix, as old programs have, and another file's line ends and mark.
        other = rated.replace("xmlns:xmp=", "xmlns:xap=").replace("xmp:Rating", "xap:Rating")
        other = other.replace("xmp:CreatorTool", "xap:CreatorTool")
        made[f"{program}, prefix"] = (other.encode(), 0, "")
        windows = b"\xef\xbb\xbf" + rated.replace("\n", "\r\n").encode()
        made[f"{program}, windows"] = (windows, 0, "")
    return made


def packet(attributes: str) -> bytes:
    """A small packet with attributes of `rdf:Description`."""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" '
        f'xmlns:xmp="{XMP}" xmlns:digiKam="http://www.digikam.org/ns/1.0/" '
        f'xmlns:xmpDM="http://ns.adobe.com/xmp/1.0/DynamicMedia/" {attributes}/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()
