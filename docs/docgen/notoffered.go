package docgen

import (
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/unsupported"
)

// notOfferedPage lists paths of the platform that qrjump does not offer.
func (p *press) notOfferedPage(l language) any {
	type family struct {
		Is, Do string
		Paths  []unsupported.Path
	}
	var page struct {
		Paths    int
		SDKs     []string
		Families []family
	}
	for _, f := range unsupported.Families() {
		page.Families = append(page.Families, family{l.say(f.Is()), l.say(f.Do()), f.Paths})
		page.Paths += len(f.Paths)
		for _, path := range f.Paths {
			page.SDKs = append(page.SDKs, strings.Split(path.SDKs, ", ")...)
		}
	}
	slices.Sort(page.SDKs)
	page.SDKs = slices.Compact(page.SDKs)
	return page
}
