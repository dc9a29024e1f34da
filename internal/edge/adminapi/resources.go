package adminapi

// The operations of each resource are methods of a separate type that embeds Admin.

type (
	accountAPI struct{ *Admin }
	ruleAPI    struct{ *Admin }
	codeAPI    struct{ *Admin }
	scanAPI    struct{ *Admin }
	webhookAPI struct{ *Admin }
	serverAPI  struct{ *Admin }
	archiveAPI struct{ *Admin }
)

func (a *Admin) accounts() accountAPI { return accountAPI{a} }
func (a *Admin) rules() ruleAPI       { return ruleAPI{a} }
func (a *Admin) codes() codeAPI       { return codeAPI{a} }
func (a *Admin) scans() scanAPI       { return scanAPI{a} }
func (a *Admin) webhooks() webhookAPI { return webhookAPI{a} }
func (a *Admin) server() serverAPI    { return serverAPI{a} }
func (a *Admin) archives() archiveAPI { return archiveAPI{a} }
