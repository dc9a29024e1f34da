package console

import "net/http"

// The groups of console pages. The methods of each type are the handlers of its pages and their private helpers; a handler receives its
// state as a *request.
type (
	accountPages struct{}
	alarmPages   struct{}
	callPages    struct{}
	codePages    struct{}
	homePages    struct{}
	numberPages  struct{}
	operatePages struct{}
	peoplePages  struct{}
	rulePages    struct{}
	scanPages    struct{}
)

// page contains the handlers of an address: GET shows the page, POST does what a form of the page asks for; nil = no such request.
type page struct{ get, post handler }

// routes returns the handlers of the pages for signed-in people by pattern.
func routes() map[string]handler {
	list := map[string]handler{}
	for path, p := range map[string]page{
		"/account-names":               {homePages{}.suggestAccounts, nil},
		"/accounts":                    {accountPages{}.accounts, accountPages{}.makeAccount},
		"/accounts/selected":           {nil, rulePages{}.selectedAccounts},
		"/accounts/{appid}":            {accountPages{}.account, accountPages{}.changeAccount},
		"/accounts/{appid}/appearance": {accountPages{}.appearance, accountPages{}.changeAppearance},
		"/accounts/{appid}/edit":       {accountPages{}.editAccount, accountPages{}.replaceAccount},
		"/agree":                       {accountPages{}.agree, accountPages{}.decideAgreement},
		"/alarms":                      {alarmPages{}.alarms, alarmPages{}.actOnAlarm},
		"/alarms/{alarm}":              {numbered("alarm", alarmPages{}.alarm), nil},
		"/calls":                       {callPages{}.calls, nil},
		"/calls/behaviours":            {callPages{}.behaviours, nil},
		"/calls/deviations":            {callPages{}.deviations, callPages{}.forgetDeviations},
		"/calls/live":                  {sameSite(callPages{}.live), nil},
		"/calls/{rid}":                 {callPages{}.call, callPages{}.repeatCall},
		"/cases":                       {alarmPages{}.cases, alarmPages{}.makeCase},
		"/cases/{case}":                {numbered("case", alarmPages{}.oneCase), numbered("case", alarmPages{}.changeCase)},
		"/cases/{case}/{sheet}":        {alarmPages{}.caseSheet, nil},
		"/codes":                       {codePages{}.codes, codePages{}.changeCodes},
		"/codes/picture":               {nil, codePages{}.codePicture},
		"/codes/{batch}":               {numbered("batch", codePages{}.batch), nil},
		"/codes/{batch}/alarm":         {nil, numbered("batch", alarmPages{}.setBatchAlarm)},
		"/codes/{batch}/list.csv":      {codePages{}.codeList, nil},
		"/codes/{batch}/serials":       {nil, numbered("batch", codePages{}.bindSerials)},
		"/components":                  {operatePages{}.components, nil},
		"/emulator":                    {plain(operatePages{}.showEmulator), operatePages{}.changeEmulator},
		"/gs1":                         {rulePages{}.gs1, nil},
		"/gs1/key":                     {rulePages{}.gs1Key, rulePages{}.changeGS1},
		"/gs1/symbol":                  {rulePages{}.gs1Symbol, nil},
		"/gs1/transfer":                {nil, rulePages{}.transferGS1},
		"/health":                      {plain(operatePages{}.showHealth), operatePages{}.recount},
		"/home":                        {homePages{}.home, nil},
		"/operate":                     {operatePages{}.operate, operatePages{}.changeNodes},
		"/operate/apps":                {plain(operatePages{}.showApps), operatePages{}.changeApps},
		"/operate/audit":               {plain(operatePages{}.showAudit), operatePages{}.verifyAudit},
		"/operate/bulk":                {operatePages{}.bulk, operatePages{}.loadBulk},
		"/operate/bulk/{file}":         {sameSite(operatePages{}.bulkFile), nil},
		"/operate/checks":              {operatePages{}.checks, operatePages{}.changeChecks},
		"/operate/settings":            {operatePages{}.settings, operatePages{}.changeSettings},
		"/operate/webhooks":            {plain(operatePages{}.showWebhooks), operatePages{}.changeWebhooks},
		"/orders":                      {codePages{}.orders, codePages{}.changeOrders},
		"/orders/texts":                {nil, codePages{}.importTexts},
		"/packages":                    {plain(codePages{}.showPackages), codePages{}.makePackage},
		"/packages/job":                {nil, codePages{}.readJob},
		"/packages/{package}":          {numbered("package", codePages{}.onePackage), numbered("package", codePages{}.changePackage)},
		"/packages/{package}/file":     {nil, codePages{}.sendPackage},
		"/people":                      {plain(peoplePages{}.showPeople), peoplePages{}.changePeople},
		"/platforms":                   {accountPages{}.platforms, accountPages{}.makePlatform},
		"/platforms/{component}":       {plain(accountPages{}.showPlatform), accountPages{}.changePlatform},
		"/preferences/{of}":            {nil, onConsole((*Console).prefer)},
		"/rules":                       {rulePages{}.rules, rulePages{}.selectedRules},
		"/rules/code":                  {rulePages{}.ruleCode, nil},
		"/rules/do":                    {nil, rulePages{}.changeRule},
		"/rules/edit":                  {rulePages{}.ruleForm, rulePages{}.saveRule},
		"/rules/export":                {rulePages{}.exportRules, nil},
		"/rules/file":                  {rulePages{}.confirmFile, nil},
		"/rules/import": {func(v *request) error { return v.page("import", importView{Owner: v.narrowed("owner")}, nil) },
			rulePages{}.importRules},
		"/rules/new":  {rulePages{}.ruleForm, rulePages{}.saveRule},
		"/rules/undo": {nil, rulePages{}.undo},
		"/scan":       {scanPages{}.scan, scanPages{}.picture},
		"/search":     {homePages{}.search, nil},
		"/see-as":     {nil, onConsole((*Console).seeAs)},
		"/self": {func(v *request) error { return peoplePages{}.showSelf(v, http.StatusOK, selfView{}) },
			peoplePages{}.changeSelf},
		"/sessions":                {onConsole((*Console).sessions), onConsole((*Console).endSession)},
		"/statistics":              {plain(numberPages{}.showStatistics), numberPages{}.actOnStatistics},
		"/statistics/recent":       {numberPages{}.recent, nil},
		"/statistics/most":         {numberPages{}.topValues, nil},
		"/statistics/unmatched":    {numberPages{}.unmatched, nil},
		"/statistics/scans":        {func(v *request) error { return scanPages{}.showScans(v, http.StatusOK, nil) }, scanPages{}.eraseUser},
		"/statistics/scans/{scan}": {scanPages{}.oneScan, nil},
		"/statistics/{table}":      {sameSite(numberPages{}.download), nil},
		"/switch":                  {homePages{}.switchAccount, nil},
		"/{$}":                     {homePages{}.landing, nil},
	} {
		for method, serve := range map[string]handler{"GET ": p.get, "POST ": p.post} {
			if serve != nil {
				list[method+Root+path] = serve
			}
		}
	}
	return list
}

// onConsole returns a handler that calls a method of the console.
func onConsole(serve func(*Console, *request) error) handler {
	return func(v *request) error { return serve(v.c, v) }
}

// plain returns a handler that shows a page without the result of an action.
func plain[T any](show func(*request, T) error) handler {
	return func(v *request) error { return show(v, *new(T)) }
}
