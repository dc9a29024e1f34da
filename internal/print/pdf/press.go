package pdf

import (
	_ "embed" // of fogra39
	"fmt"
	"html"
	"strings"
)

// fogra39 is an ICC profile of the printing condition FOGRA39; scripts/fogra39-profile.py computes it from measurements under CC0.
//
//go:embed fogra39.icc
var fogra39 []byte

// made is the time of all files for a press, because PDF/X requires a time and the same pages must produce identical files.
const made = "1980-01-01T00:00:00Z"

// press writes the output intent and the XMP metadata, which PDF/X-4 (ISO 15930-7) requires. It returns the entries that PDF/X-4 requires
// in the catalog, in the information dictionary and in the trailer.
func (w *Writer) press() (catalog, info, trailer string) {
	profile, metadata := w.reserve(), w.reserve()
	w.stream(profile, "/N 4", deflate(fogra39))
	id := fmt.Sprintf("%x", w.sum.Sum(nil)[:16])
	xmp := fmt.Sprintf(`<?xpacket begin="%s" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:pdf="http://ns.adobe.com/pdf/1.3/" xmlns:pdfxid="http://www.npes.org/pdfx/ns/id/" xmp:CreateDate="%[2]s" xmp:ModifyDate="%[2]s"
 xmp:MetadataDate="%[2]s" xmpMM:DocumentID="uuid:%[3]s" xmpMM:VersionID="1" xmpMM:RenditionClass="default" pdf:Producer="qrjump"
 pdf:Trapped="False" pdfxid:GTS_PDFXVersion="PDF/X-4"><dc:title><rdf:Alt><rdf:li xml:lang="x-default">%[4]s</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>`, "\ufeff", made, id, html.EscapeString(w.info.Title))
	w.object(metadata, "<</Type/Metadata/Subtype/XML/Length %d>>stream\n%s\nendstream", len(xmp), xmp)
	catalog = fmt.Sprintf("/Metadata %d 0 R/OutputIntents[<</Type/OutputIntent/S/GTS_PDFX/OutputConditionIdentifier(FOGRA39)"+
		"/RegistryName(http://www.color.org)/Info(Offset, coated paper: ISO 12647-2)/DestOutputProfile %d 0 R>>]", metadata, profile)
	return catalog, "/GTS_PDFXVersion(PDF/X-4)/Trapped/False/CreationDate(D:19800101000000Z)/ModDate(D:19800101000000Z)",
		fmt.Sprintf("/ID[<%[1]s><%[1]s>]", id)
}

// separation returns the colour space of the spot colour of the file, which viewers show as black; ok is false if the ink is none.
func (w *Writer) separation() (space string, ok bool) {
	name, ok := strings.CutPrefix(w.info.Ink, Spot)
	var escaped strings.Builder
	for _, b := range []byte(name) {
		fmt.Fprintf(&escaped, "#%02X", b)
	}
	return "[/Separation/" + escaped.String() + "/DeviceCMYK<</FunctionType 2/Domain[0 1]/N 1/C0[0 0 0 0]/C1[0 0 0 1]>>]", ok
}
