package guide

// contents lists the sections with their pages in order. Every page belongs to one section.
var contents = []struct {
	title string // text key of the section's title
	names []string
	calls []Call // the calls whose pages the section lists after the pages in names
}{
	{"contents.start", []string{"", "tour", "how/install", "matching", "questions"}, nil},
	{"contents.how", []string{"how/sdk", "how/clients", "how/ci", "how/rules-in-git", "how/gs1", "how/platform", "how/production",
		"how/sign-in", "how/postgresql", "how/nodes", "how/patroni", "how/cells", "how/capacity", "handbook", "how/app", "how/webhooks",
		"how/print", "how/texts", "how/copied-codes", "how/pages-for-buyers", "how/statistics"}, nil},
	{"contents.tokens", []string{"calls/every-call", "calls/sdks", "calls/not-offered"}, tokenCalls},
	{"contents.rules", nil, ruleCalls},
	{"contents.codes", nil, codeCalls},
	{"contents.platforms", nil, platformCalls},
	{"contents.tables", []string{"errors", "settings", "commands", "metrics", "behaviours"}, nil},
}
