// Package pdf writes PDF pages with fills, lines, text and pictures one at a time. For a written page, the writer keeps only the
// file offsets of its objects: sixteen bytes.
package pdf

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"crypto/sha256"
	_ "embed" // of fogra39
	"errors"
	"fmt"
	"hash"
	"html"
	"image"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
)

// leafPages is the maximum number of pages in a leaf of the page tree, and of child nodes in an inner node.
const leafPages = 64

// Writer writes one PDF file. Pages may be drawn by any goroutine. Only one goroutine may add pages, in order.
type Writer struct {
	to     io.Writer
	at     int64
	places []int64 // file offset of each object; 0 = not written yet
	err    error
	sum    hash.Hash // of a file for a press

	resources int
	levels    []node // open nodes of the page tree, leaves first
	pages     int
	info      Info

	faces    []Face
	glyphs   []map[rune]bool // used, by face
	pictures []int           // objects
	chinese  bool            // a page has characters of the viewer's Chinese font
}

// node is an open node of the page tree.
type node struct {
	object int
	kids   []int
	pages  int
}

// Info is the metadata of a PDF file. Info contains no time, so that the same pages with the same info produce identical files.
type Info struct {
	Title string
	// Ink is the only ink of a file for a press, which conforms to PDF/X-4: K for black, or Spot and the name of a spot colour; "" = the
	// file is not for a press.
	Ink string
}

// K is the black ink of a press; Spot precedes the name of a spot colour.
const (
	K    = "k"
	Spot = "spot:"
)

// Face provides the glyph outlines of a font. The methods of a Face must be safe for concurrent use.
type Face interface {
	// Glyph returns the width and the outline of a character in thousandths of the font size, with y upwards; ok reports whether
	// the font contains the character.
	Glyph(r rune) (width float64, outline []Segment, ok bool)
}

// Segment is a step of an outline: a move, a line or a cubic curve.
type Segment struct {
	Op     byte         // 'm' starts a contour, 'l' is a line, 'c' is a curve
	Points [][2]float64 // three for a curve, else one
}

// NewWriter starts a PDF file.
func NewWriter(to io.Writer, info Info) *Writer {
	w := &Writer{to: to, info: info, sum: sha256.New()}
	if info.Ink != "" {
		w.to = io.MultiWriter(to, w.sum)
	}
	w.write("%%PDF-1.6\n%%\xe2\xe3\xcf\xd3\n")
	w.resources = w.reserve()
	return w
}

func (w *Writer) write(format string, args ...any) {
	if w.err != nil {
		return
	}
	n, err := fmt.Fprintf(w.to, format, args...)
	w.at, w.err = w.at+int64(n), err
}

// reserve assigns a number to an object that is written later.
func (w *Writer) reserve() int {
	w.places = append(w.places, 0)
	return len(w.places)
}

func (w *Writer) object(number int, format string, args ...any) {
	w.places[number-1] = w.at
	w.write("%d 0 obj\n%s\nendobj\n", number, fmt.Sprintf(format, args...))
}

func (w *Writer) stream(number int, dictionary string, packed []byte) {
	w.places[number-1] = w.at
	w.write("%d 0 obj\n<</Length %d/Filter/FlateDecode%s>>stream\n", number, len(packed), dictionary)
	w.write("%s", packed)
	w.write("\nendstream\nendobj\n")
}

// Use registers a font and returns its handle for pages.
func (w *Writer) Use(f Face) Font {
	w.faces, w.glyphs = append(w.faces, f), append(w.glyphs, map[rune]bool{})
	return Font{face: f, index: len(w.faces) - 1}
}

// UseWithChinese registers a font like Use. Characters that the font does not contain are drawn with the Chinese font of the viewer
// (Adobe-GB1, ISO 32000-1 9.7.5), which is not embedded; characters outside the Basic Multilingual Plane become 〓.
func (w *Writer) UseWithChinese(f Face) Font {
	font := w.Use(f)
	font.chinese = true
	return font
}

// chineseBlock is the block of the characters of the viewer's Chinese font; it differs from all blocks of 256 characters.
const chineseBlock = 1 << 24

// chineseFont writes the font of UseWithChinese, and returns its object number.
func (w *Writer) chineseFont() int {
	descriptor, font := w.reserve(), w.reserve()
	w.object(descriptor, "<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[-25 -254 1000 880]/ItalicAngle 0/Ascent 880"+
		"/Descent -120/CapHeight 880/StemV 93>>")
	w.object(font, "<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[<</Type/Font"+
		"/Subtype/CIDFontType0/BaseFont/STSong-Light/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 4>>/DW 1000"+
		"/FontDescriptor %d 0 R>>]>>", descriptor)
	return font
}

// Font is a font registered in a file.
type Font struct {
	face    Face
	index   int
	chinese bool
}

func (f Font) has(r rune) bool {
	_, _, ok := f.face.Glyph(r)
	return ok
}

// Width returns the width of a text in font sizes. A character that the font does not contain is as wide as the font is high.
func (f Font) Width(text string) float64 {
	sum := 0.0
	for _, r := range text {
		width, _, ok := f.face.Glyph(r)
		if !ok {
			width = 1000
		}
		sum += width / 1000
	}
	return sum
}

// Picture is a picture registered in a file.
type Picture struct{ index int }

// Picture writes a picture once, for use on any number of pages. Transparent areas become white. In a file for a press, the picture is
// printed as greys of the ink.
func (w *Writer) Picture(m image.Image) Picture {
	b, space := m.Bounds(), "/DeviceRGB"
	switch separation, ok := w.separation(); {
	case ok:
		space = separation + "/Decode[1 0]"
	case w.info.Ink != "":
		space = "/DeviceGray"
	}
	values := make([]byte, 0, 3*b.Dx()*b.Dy())
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, b, a := m.At(x, y).RGBA()
			if w.info.Ink != "" {
				values = append(values, byte(((299*r+587*g+114*b)/1000+0xffff-a)>>8))
				continue
			}
			for _, v := range [...]uint32{r, g, b} {
				values = append(values, byte((v+0xffff-a)>>8))
			}
		}
	}
	number := w.reserve()
	w.stream(number, fmt.Sprintf("/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent 8/ColorSpace%s", b.Dx(), b.Dy(), space),
		deflate(values))
	w.pictures = append(w.pictures, number)
	return Picture{len(w.pictures) - 1}
}

// Add writes a page to the file.
func (w *Writer) Add(p *Page) error {
	content, page, trim := w.reserve(), w.reserve(), ""
	if w.info.Ink != "" {
		trim = fmt.Sprintf("/TrimBox[%[1]s]/BleedBox[%[1]s]", p.trim)
	}
	p.Finish()
	w.stream(content, "", p.done)
	w.object(page, "<</Type/Page/Parent %d 0 R/MediaBox[0 0 %s %s]%s/Resources %d 0 R/Contents %d 0 R>>", w.parent(0), number(p.width),
		number(p.height), trim, w.resources, content)
	for u := range p.used {
		w.glyphs[u.font][u.char] = true
	}
	w.chinese = w.chinese || p.chinese
	w.pages++
	w.adopt(0, page, 1)
	return w.err
}

// parent returns the object number of the open node at a level.
func (w *Writer) parent(level int) int {
	if len(w.levels) == level {
		w.levels = append(w.levels, node{})
	}
	if w.levels[level].object == 0 {
		w.levels[level].object = w.reserve()
	}
	return w.levels[level].object
}

// adopt adds a written object to the open node at a level.
func (w *Writer) adopt(level, object, pages int) {
	w.parent(level)
	n := &w.levels[level]
	n.kids, n.pages = append(n.kids, object), n.pages+pages
	if len(n.kids) == leafPages {
		w.closeNode(level)
	}
}

// closeNode writes the open node at a level, and adds it to the level above.
func (w *Writer) closeNode(level int) {
	n := w.levels[level]
	parent := w.parent(level + 1)
	w.object(n.object, "<</Type/Pages/Parent %d 0 R/Count %d/Kids[%s]>>", parent, n.pages, references(n.kids))
	w.levels[level] = node{kids: n.kids[:0]}
	w.adopt(level+1, n.object, n.pages)
}

func references(objects []int) string {
	var b strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&b, "%d 0 R ", o)
	}
	return strings.TrimSpace(b.String())
}

// Close completes the file. A file must contain at least one page.
func (w *Writer) Close() error {
	if w.pages == 0 {
		return cmp.Or(w.err, errors.New("pdf: the file has no pages"))
	}
	// Each level except the highest is closed into the level above; closing a level may create a new highest level.
	for level := 0; level < len(w.levels)-1; level++ {
		if len(w.levels[level].kids) > 0 {
			w.closeNode(level)
		}
	}
	top := w.levels[len(w.levels)-1]
	w.object(top.object, "<</Type/Pages/Count %d/Kids[%s]>>", top.pages, references(top.kids))
	w.shared()
	catalog, info := w.reserve(), w.reserve()
	var inCatalog, inInfo, inTrailer string // entries of a file for a press
	if w.info.Ink != "" {
		inCatalog, inInfo, inTrailer = w.press()
	}
	// PrintScaling /None asks viewers not to scale the page to the paper, because the labels would no longer match the cells of a
	// die-cut sheet.
	w.object(catalog, "<</Type/Catalog/Pages %d 0 R /ViewerPreferences << /PrintScaling /None >>%s>>", top.object, inCatalog)
	w.object(info, "<</Producer%s/Title%s%s>>", text("qrjump"), text(w.info.Title), inInfo)
	xref := w.at
	w.write("xref\n0 %d\n0000000000 65535 f \n", len(w.places)+1)
	for _, place := range w.places {
		w.write("%010d 00000 n \n", place)
	}
	w.write("trailer\n<</Size %d/Root %d 0 R/Info %d 0 R%s>>\nstartxref\n%d\n%%%%EOF\n", len(w.places)+1, catalog, info, inTrailer, xref)
	if w.err == nil && w.at > 9_999_999_999 {
		w.err = errors.New("pdf: the file exceeds 10 GB: split it into several files")
	}
	return w.err
}

// shared writes the fonts and the resource dictionary that all pages use.
func (w *Writer) shared() {
	var fonts, pictures strings.Builder
	for i, used := range w.glyphs {
		for _, block := range blocks(used) {
			fmt.Fprintf(&fonts, "/F%d_%x %d 0 R", i, block, w.font(w.faces[i], block, used))
		}
	}
	if w.chinese {
		fmt.Fprintf(&fonts, "/Chinese %d 0 R", w.chineseFont())
	}
	for i, object := range w.pictures {
		fmt.Fprintf(&pictures, "/P%d %d 0 R", i, object)
	}
	inks := ""
	if separation, ok := w.separation(); ok {
		inks = "/ColorSpace<</Ink" + separation + ">>"
	}
	w.object(w.resources, "<</Font<<%s>>/XObject<<%s>>%s>>", &fonts, &pictures, inks)
}

// blocks returns the blocks of 256 characters that contain a used character: each block becomes a PDF font, which is limited to this size.
func blocks(used map[rune]bool) []rune {
	seen := map[rune]bool{}
	for r := range used {
		seen[r>>8] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// font writes a Type 3 font, whose glyphs are outlines: the printer needs no installed font, and the text can still be searched.
func (w *Writer) font(f Face, block rune, used map[rune]bool) int {
	var procs, widths, differences, unicode strings.Builder
	chars := slices.DeleteFunc(slices.Sorted(maps.Keys(used)), func(r rune) bool { return r>>8 != block })
	for _, r := range chars {
		width, outline, _ := f.Glyph(r)
		object := w.reserve()
		w.stream(object, "", deflate(glyphProgram(width, outline)))
		fmt.Fprintf(&procs, "/g%x %d 0 R", r, object)
		fmt.Fprintf(&differences, " %d/g%x", r&0xff, r)
	}
	for code := range rune(256) {
		width := 0.0
		if used[block<<8|code] {
			width, _, _ = f.Glyph(block<<8 | code)
		}
		widths.WriteString(number(width) + " ")
	}
	// A CMap allows at most 100 entries per bfchar block.
	for part := range slices.Chunk(chars, 100) {
		fmt.Fprintf(&unicode, "%d beginbfchar\n", len(part))
		for _, r := range part {
			fmt.Fprintf(&unicode, "<%02x> <", r&0xff)
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&unicode, "%04x", unit)
			}
			unicode.WriteString(">\n")
		}
		unicode.WriteString("endbfchar\n")
	}
	cmap := w.reserve()
	w.stream(cmap, "", deflate([]byte("/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /Q def\n/CMapType 2 def\n"+
		"1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"+unicode.String()+
		"endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n")))
	object := w.reserve()
	w.object(object, "<</Type/Font/Subtype/Type3/FontBBox[0 0 0 0]/FontMatrix[.001 0 0 .001 0 0]/Resources<<>>/FirstChar 0/LastChar 255"+
		"/Widths[%s]/Encoding<</Type/Encoding/Differences[%s]>>/CharProcs<<%s>>/ToUnicode %d 0 R>>",
		strings.TrimSpace(widths.String()), &differences, &procs, cmap)
	return object
}

func glyphProgram(width float64, outline []Segment) []byte {
	box := [4]float64{}
	for _, s := range outline {
		for _, p := range s.Points {
			box = [4]float64{min(box[0], p[0]), min(box[1], p[1]), max(box[2], p[0]), max(box[3], p[1])}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s 0 %s %s %s %s d1\n", number(width), number(box[0]), number(box[1]), number(box[2]), number(box[3]))
	for _, s := range outline {
		for _, p := range s.Points {
			b.WriteString(number(p[0]) + " " + number(p[1]) + " ")
		}
		b.WriteByte(s.Op)
		b.WriteByte('\n')
	}
	if len(outline) > 0 {
		b.WriteString("f\n")
	}
	return b.Bytes()
}

// packers contains reusable compressors, because one compressor takes more memory than many pages.
var packers = sync.Pool{New: func() any {
	z, _ := zlib.NewWriterLevel(io.Discard, zlib.BestSpeed) // the compression level is valid, so there is no error
	return z
}}

func deflate(content []byte) []byte {
	var b bytes.Buffer
	z := packers.Get().(*zlib.Writer)
	defer packers.Put(z)
	z.Reset(&b)
	_, _ = z.Write(content) // a bytes.Buffer never returns an error
	_ = z.Close()
	return b.Bytes()
}

// text returns a PDF text string: UTF-16 in hexadecimal digits.
func text(s string) string {
	var b strings.Builder
	b.WriteString("<feff")
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04x", unit)
	}
	return b.String() + ">"
}

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
