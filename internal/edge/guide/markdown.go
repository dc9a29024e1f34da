package guide

import (
	"bytes"
	"path"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	tables "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown returns a converter with tables. It drops raw HTML, and the alignment of table cells, which would be an inline style.
func markdown(moreExtenders ...goldmark.Extender) goldmark.Markdown {
	return goldmark.New(
		goldmark.WithExtensions(append(moreExtenders,
			extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignNone)))...),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(ownNodes{}, 100))),
	)
}

// readers contains the Markdown parsers by language: consecutive lines of Chinese are joined without a space.
var readers = sync.OnceValue(func() map[string]goldmark.Markdown {
	return map[string]goldmark.Markdown{"en": markdown(),
		"zh": markdown(extension.NewCJK(extension.WithEastAsianLineBreaks(extension.EastAsianLineBreaksCSS3Draft)))}
})

func (p *page) parse() ast.Node {
	return readers()[p.language.Code].Parser().Parse(text.NewReader(p.source))
}

// toHTML renders the body of a page. Each heading gets the anchor of the same heading in the English page, so that links work in
// both languages.
func toHTML(p, english *page) []byte {
	tree := p.parse()
	names := anchors(tree)
	if english != p {
		names = anchors(english.parse())
	}
	pos := 0
	var blocks []*ast.FencedCodeBlock
	ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if pos < len(names) {
				n.SetAttributeString("id", []byte(names[pos]))
			}
			pos++
		case *ast.Link:
			n.Destination = []byte(target(p, string(n.Destination)))
		case *ast.Image:
			n.Destination = []byte(target(p, string(n.Destination)))
		case *tables.Table:
			n.SetAttributeString("label", []byte(p.title))
		case *ast.FencedCodeBlock:
			blocks = append(blocks, n)
		}
		return ast.WalkContinue, nil
	})
	for _, n := range blocks {
		sayNotRun(p, n)
	}
	var b bytes.Buffer
	if err := readers()[p.language.Code].Renderer().Render(&b, p.source, tree); err != nil {
		panic(err) // writing to memory cannot fail
	}
	return b.Bytes()
}

// sayNotRun adds a note below a block of commands that no test runs, as marked in its info string: "sh not-run=REASON".
func sayNotRun(p *page, block *ast.FencedCodeBlock) {
	if block.Info == nil {
		return
	}
	_, reason, marked := strings.Cut(string(block.Info.Value(p.source)), "not-run=")
	if !marked {
		return
	}
	line := ast.NewParagraph()
	line.SetAttributeString("class", []byte("muted"))
	line.AppendChild(line, ast.NewString([]byte(p.language.Say("not_run", reason))))
	block.Parent().InsertAfter(block.Parent(), block, line)
}

// anchors returns the anchors of the headings of a page, in order.
func anchors(tree ast.Node) (names []string) {
	ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, is := n.(*ast.Heading); is && entering {
			id, _ := h.AttributeString("id")
			name, _ := id.([]byte)
			names = append(names, string(name))
		}
		return ast.WalkContinue, nil
	})
	return names
}

// target returns the URL for a link in a page. Links in the Markdown files name files, so that they also work on a code host;
// target converts them to page URLs.
func target(p *page, to string) string {
	if strings.Contains(to, "://") || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "/") {
		return to
	}
	file, fragment, has := strings.Cut(to, "#")
	name := path.Join(path.Dir(p.language.Code+"/"+p.name+"."), strings.TrimSuffix(file, ".md"))
	name = strings.TrimSuffix(name, "README")
	if has {
		name += "#" + fragment
	}
	return Root + name
}

// ownNodes overrides goldmark's rendering: a table in a scrollable region, and a heading with a link to itself.
type ownNodes struct{}

func (ownNodes) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(tables.KindTable, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			label, _ := n.AttributeString("label")
			name, _ := label.([]byte)
			w.WriteString(`<div class="wrap" tabindex="0" role="region" aria-label="`)
			w.Write(util.EscapeHTML(name))
			w.WriteString("\">\n<table>\n")
		} else {
			w.WriteString("</table>\n</div>\n")
		}
		return ast.WalkContinue, nil
	})
	r.Register(ast.KindHeading, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		h := n.(*ast.Heading)
		level := string("0123456"[h.Level])
		id, _ := h.AttributeString("id")
		name, _ := id.([]byte)
		switch {
		case entering:
			w.WriteString("<h" + level + ` id="`)
			w.Write(util.EscapeHTML(name))
			w.WriteString(`">`)
		case h.Level > 1:
			w.WriteString(` <a class="here" href="#`)
			w.Write(util.EscapeHTML(name))
			w.WriteString(`" aria-hidden="true" tabindex="-1">#</a></h` + level + ">\n")
		default:
			w.WriteString("</h1>\n")
		}
		return ast.WalkContinue, nil
	})
}
