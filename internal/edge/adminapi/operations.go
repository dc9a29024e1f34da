package adminapi

import (
	"slices"

	o "github.com/qrjump/qrjump/internal/infra/adminroute"
)

// Operations returns all routes of the admin API: path, name, minimum role of the caller, function and description.
func (a *Admin) Operations() []o.Route {
	return slices.Concat(a.accounts().accountOperations(), a.accounts().platformOperations(), a.rules().ruleOperations(),
		a.rules().gs1Operations(), a.codes().codeOperations(), a.scans().scanOperations(), a.webhooks().webhookOperations(),
		a.server().serverOperations(), a.archives().archiveOperations())
}

// accountOperations returns the routes for accounts and for the data of their users.
func (a accountAPI) accountOperations() []o.Route {
	return []o.Route{
		o.Get("/accounts", "listAccounts", o.Viewer, a.listAccounts, "List accounts by AppID").AnyAccount(),
		o.Get("/account-names", "nameAccounts", o.Viewer, a.nameAccounts, "The names of some accounts").AnyAccount(),
		o.Get("/search", "search", o.Viewer, a.search, "What does a text name, or is a part of: accounts, rules, batches, codes, activities, calls").
			AnyAccount().Description("Codes and serial numbers are found by those who may look codes up, calls by those who may read their log. " +
			"Of rules those are found whose link or path begins with the text, and those of the newest 2,000 that have it anywhere."),
		o.Get("/accounts/{appid}", "getAccount", o.Viewer, a.getAccount, "Show an account"),
		o.Get("/accounts/{appid}/abilities", "listAbilities", o.Viewer, a.listAbilities,
			"What an account may do, and what is missing where it may not"),
		o.Put("/accounts/{appid}", "putAccount", o.Operator, a.putAccount, "Create or replace an account"),
		o.Delete("/accounts/{appid}", "deleteAccount", o.Operator, a.deleteAccount,
			"Delete an account with its members, links, tokens and authorisations; 409 where something keeps it").
			Description("Rules, GS1 keys and codes that open it go first. An account that applied for codes or has permanent QR codes stays for " +
				"ever: what is printed must find it. The log of changes and counts keep what they say of it."),
		o.Put("/accounts/{appid}/versions", "setVersions", o.Operator, a.setVersions, "Say which versions of a Mini Program exist"),
		o.Put("/accounts/{appid}/jump", "setJump", o.Operator, a.setJump, "Switch all rules of an account on or off"),
		o.Delete("/accounts/{appid}/tokens", "endTokens", o.Operator, a.endTokens,
			"End all access tokens of an account at once, also those with which platforms call for it"),
		o.Put("/accounts/{appid}/members/{user}", "putMember", o.Operator, a.putMember, "Give a user a role"),
		o.Delete("/accounts/{appid}/members/{user}", "deleteMember", o.Operator, a.deleteMember, "Take a user's role away"),
		o.Get("/accounts/{appid}/links", "listLinks", o.Viewer, a.listLinks, "List the links of a service account in any state"),
		o.Put("/accounts/{appid}/links/{mini_program}", "putLink", o.Operator, a.putLink, "Link a service account with a Mini Program"),
		o.Delete("/accounts/{appid}/links/{mini_program}", "deleteLink", o.Operator, a.deleteLink, "End a link"),
		o.Post("/accounts/{appid}/links/{mini_program}/confirm", "confirmLink", o.Operator, a.confirmLink,
			"Answer for one side's administrator: link, or end a link, or not"),
		o.Get("/accounts/{appid}/quota", "getQuota", o.Viewer, a.getQuota, "How many publishes are left this month"),
		o.Get("/accounts/{appid}/notices", "listNotices", o.Viewer, a.listNotices,
			"What an account was told that the operator did to it, newest first"),
		o.Get("/accounts/{appid}/appearance", "getAppearance", o.Viewer, a.getAppearance, "How an account looks on the pages for buyers"),
		o.Put("/accounts/{appid}/appearance", "putAppearance", o.Operator, a.putAppearance,
			"Say how an account looks on the pages for buyers; what is left out is none, but the logo stays").
			Description("A logo is a PNG, JPEG or WebP of at most 512 KiB and 4,194,304 pixels in Base64; it is drawn anew as a PNG of at most " +
				"384 × 192 pixels."),
		o.Get("/users/{user}/openid", "getOpenID", o.Operator, a.getOpenID, "The openid of a user under an account").OfQuery("appid"),
		o.Delete("/users/{user}/scans", "eraseUser", o.Admin, a.scans().eraseUser,
			"Make every scan of a user anonymous, and remove tickets, logins and what else stands by the user's openids; what the scans count stays").Patient(),
	}
}

// platformOperations returns the routes for third-party platforms.
func (a accountAPI) platformOperations() []o.Route {
	return []o.Route{
		o.Get("/components", "listComponents", o.Viewer, a.listComponents, "List third-party platforms by AppID"),
		o.Get("/components/{component}", "getComponent", o.Viewer, a.getComponent, "One third-party platform and who authorised it"),
		o.Put("/components/{component}", "putComponent", o.Operator, a.putComponent,
			"Create or change a third-party platform; its authorisations stay"),
		o.Delete("/components/{component}", "deleteComponent", o.Operator, a.deleteComponent,
			"Delete a third-party platform: its tokens and all its authorisations end at once"),
		o.Get("/components/{component}/pushes", "listPushes", o.Viewer, a.listPushes,
			"What was sent to a platform's event URL, and answered, newest first; tickets and codes are masked"),
		o.Delete("/components/{component}/authorizations/{appid}", "withdrawAuthorization", o.Operator, a.withdrawAuthorization,
			"An account takes back what it granted a platform: its tokens end at once"),
		o.Get("/accounts/{appid}/authorizations", "listHolders", o.Viewer, a.listHolders, "Which platforms an account authorised"),
		o.Post("/authorizations/lookup", "lookupAuthorization", o.Operator, a.lookupAuthorization,
			"What does a platform ask for by its link, and for which accounts may the caller agree?").AnyAccount(),
		o.Post("/authorizations", "agreeToPlatform", o.Operator, a.agreeToPlatform,
			"Let a platform act for an account, as the page of its link does; once by each link").AnyAccount(),
		o.Delete("/accounts/{appid}/authorizations/{component}", "withdrawFromAccount", o.Operator, a.withdrawFromAccount,
			"The same, by the account's side"),
	}
}

// ruleOperations returns the routes for rules and domains.
func (a ruleAPI) ruleOperations() []o.Route {
	return []o.Route{
		o.Get("/rules", "listRules", o.Viewer, a.listRules, "List rules of all owners, oldest first").AnyAccount().
			Description("With `text` or `state` a call looks at 2,000 rules at most, so that a page may have few or none while `next` says where to go on."),
		o.Get("/rules/names", "nameRules", o.Viewer, a.nameRules, "The owners and prefixes of rules that counts know by their numbers").
			AnyAccount().Description("Also of deleted ones, as long as the log of changes knows them."),
		o.Post("/accounts/{appid}/rules", "addRule", o.RulesEditor, a.addRule,
			"Add a rule of an account, as the account does by the wire: the same checks, the same verification file"),
		o.Put("/accounts/{appid}/rules", "editRule", o.RulesEditor, a.editRule,
			"Change a rule of an account; test links that are left out stay. The page of a published rule cannot change"),
		o.Post("/accounts/{appid}/rules/publish", "publishRule", o.RulesEditor, a.publishRule,
			"Publish a rule of an account, which spends one of its publishes of this month"),
		o.Delete("/accounts/{appid}/rules", "deleteRule", o.RulesEditor, a.deleteRule, "Delete a rule of an account; the rule as it was"),
		o.Post("/accounts/{appid}/rules/check", "checkRule", o.RulesEditor, a.checkRule,
			"What would an add be answered, where must the verification file be, and is it there? Nothing is changed"),
		o.Get("/rules/history", "ruleHistory", o.Viewer, a.ruleHistory, "What happened to a prefix, newest first").AnyAccount(),
		o.Get("/rules/occupiers", "ruleOccupiers", o.Viewer, a.ruleOccupiers, "Which rules forbid a prefix to others").
			AnyAccount(),
		o.Post("/rules/changes/{seq}/undo", "undoRuleChange", o.RulesEditor, a.server().undoRuleChange,
			"Restore what was before a change of a rule, where nothing came after it").
			Description(
				"An undo is a change of its own, can be undone like any other, and spends no publish and gives none back. 409 names what came after the change."),
		o.Post("/rules/plan/replay", "replayPlan", o.RulesEditor, a.server().replayPlan,
			"What would a planned change have done to the scans of the last days?").Patient().AnyAccount().
			Description(
				"Nothing is changed. Every link that was scanned is decided by the rules as they are now and by the rules as they would be."),
		o.Post("/prefixes/release", "releasePrefix", o.Operator, a.releasePrefix,
			"Take rules away from their owners, because the domain changed hands. Publishes that were spent stay spent; the old owners are told").Patient(),
		o.Get("/confirmations", "listConfirmations", o.Viewer, a.listConfirmations,
			"Checks of verification files, newest first: why a check failed").OfQuery("owner"),
		o.Get("/rechecks", "listRechecks", o.Viewer, a.listRechecks,
			"The nightly look at verification files: what is in place and what is not; rules go on either way").OfQuery("owner"),
		o.Post("/rechecks", "recheckNow", o.RulesEditor, a.recheckNow, "Look at all verification files now, and wait for the first of them"),
		o.Get("/domains", "listDomains", o.Viewer, a.listDomains, "Hosts that are trusted or denied"),
		o.Put("/domains/{host}", "putDomain", o.Operator, a.putDomain, "Trust a host, or deny it and those below it"),
		o.Delete("/domains/{host}", "deleteDomain", o.Operator, a.deleteDomain, "Say nothing of a host any more"),
	}
}

// gs1Operations returns the routes for links of GS1 keys.
func (a ruleAPI) gs1Operations() []o.Route {
	return []o.Route{
		o.Get(gs1Links, "listGS1Links", o.Viewer, a.listGS1, "List what is said of GS1 keys, by key").AnyAccount(),
		o.Post(gs1Links, "addGS1Links", o.RulesEditor, a.addGS1,
			"Say where a GS1 key leads of which nothing is said yet; 409 where something is").AnyAccount(),
		o.Get(gs1Links+"/{key...}", "getGS1Links", o.Viewer, a.getGS1, "What is said of a GS1 key").AnyAccount(),
		o.Put(gs1Links+"/{key...}", "putGS1Links", o.RulesEditor, a.putGS1,
			"Say where a GS1 key leads, and all below it of which nothing is said; what is left out is none").AnyAccount().
			Description("409: the primary key, or its company prefix (setting gs1_prefixes), is another account's, which the answer names."),
		o.Delete(gs1Links+"/{key...}", "deleteGS1Links", o.RulesEditor, a.deleteGS1,
			"Say nothing of a GS1 key any more; what was said").AnyAccount(),
		o.Post("/gs1/changes/{seq}/undo", "undoGS1Change", o.RulesEditor, a.undoGS1,
			"Restore what was before a change of a GS1 key, where nothing came after it").AnyAccount(),
		o.Post("/gs1/transfer", "transferGS1", o.Operator, a.transferGS1,
			"Give a GS1 key with all below it, or a GS1 Company Prefix with its keys, to another account"),
		o.Get("/export/gs1", "exportGS1Links", o.Viewer, a.exportGS1, "What is said of all GS1 keys, a JSON object a line as in a seed").
			AnyAccount().Answers("the lines", ndjson),
		o.Post("/import/gs1", "importGS1Links", o.RulesEditor, a.importGS1,
			"Load what is said of GS1 keys, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none").
			AnyAccount().Patient().Takes(ndjson, linesTaken).Answers(linesStored).
			Exclusive("another import of GS1 links is running: wait for its end"),
	}
}

// codeOperations returns the routes for batches, codes and printers' packages.
func (a codeAPI) codeOperations() []o.Route {
	return []o.Route{
		o.Get("/orders", "listOrders", o.Viewer, a.listOrders, "Codes that people ordered, the newest first, with how far each order is").
			AnyAccount(),
		o.Post("/accounts/{appid}/orders", "placeOrder", o.Marketer, a.placeOrder,
			"Order codes for an account; they are made at once, or once somebody else agrees (setting order_approval_required)"),
		o.Post("/accounts/{appid}/orders/decisions", "decideOrder", o.Marketer, a.decideOrder, "Agree to an order of codes, or refuse it"),
		o.Get("/batches", "listBatches", o.Viewer, a.listBatches, "Applications for codes, oldest first").AnyAccount(),
		o.Get("/batches/{application_id}", "getBatch", o.Viewer, a.getBatch, "Show an application").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/events", "listCodeEvents", o.Viewer, a.listCodeEvents,
			"What happened to codes of a batch, oldest first; from after now is scheduled").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/runs", "listCodeRuns", o.Viewer, a.listCodeRuns,
			"Which index ranges of an application are what now: active, frozen, void, redeemed or free").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/codes", "listCodes", o.Operator, a.listCodes,
			"The codes of a range, a line each: index, code and code text; 50,000 at most").Concerns(a.ofBatch).
			Answers("the codes", "text/csv"),
		o.Post("/batches/{application_id}/states", "changeCodes", o.Marketer, a.changeCodes,
			"Freeze, unfreeze, void or redeem codes; void is for ever").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/activations", "activateCodes", o.Marketer, a.activateCodes,
			"Activate a range of codes, now or at a time").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/withdrawals", "withdrawCodes", o.Marketer, a.withdrawCodes,
			"Make codes not active any more, now or at a time").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/retarget", "retargetCodes", o.Marketer, a.retargetCodes,
			"Open another page for what is active in a range; what the codes count for stays").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/codes/{code_index}/scans", "getCodeScans", o.Viewer, a.getCodeScans,
			"What is known of the scans of a code").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/alarm", "getBatchAlarm", o.Viewer, a.scans().getBatchAlarm,
			"From which score on codes of an application are alarmed because they look copied").Concerns(a.ofBatch),
		o.Put("/batches/{application_id}/alarm", "putBatchAlarm", o.Operator, a.scans().putBatchAlarm,
			"Choose from which score on codes of an application are alarmed, or off; neither: the setting alarm_threshold. Alarms that stand stay").
			Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/alarm/replay", "replayAlarms", o.Viewer, a.scans().replayAlarms,
			"What would a threshold have given in the last 90 days?").Concerns(a.ofBatch).Patient().
			Exclusive("another replay is running: wait for its end").
			Description("Nothing is changed. The scans of codes that have so many points are read from the ledger again; " +
				"a dismissal takes no points away here."),
		o.Put("/batches/{application_id}/serials", "bindSerials", o.Marketer, a.bindSerials,
			"Give codes the brand's own serial numbers: all that are named, or none").Concerns(a.ofBatch).
			Description("The same again changes nothing. 409: a code has another number and `replace` is not said, or another code has the number."),
		o.Post("/accounts/{appid}/imported-batches", "beginImport", o.Operator, a.beginImport,
			"Make a batch for codes that were made elsewhere; importCodes then brings them. The same again shows the one that there is").
			Description("409: the account used this `isv_application_id` for another application, or `application_id` is another's."),
		o.Put("/batches/{application_id}/imported-codes", "importCodes", o.Operator, a.importCodes,
			"Import codes of another system: lines of dot matrix, original code, index and code text, or of texts; all or none").
			Concerns(a.ofBatch).Patient().
			Takes(fourColumns, "lines of the wire's four columns in the order of their indexes, or one text a line where the text of the "+
				"application has {token:N}; at most 50,000").
			Description("Lines that are here already change nothing. 422 names the line that is wrong, that is here with another text, or whose text is " +
				"another code's. Nothing of the batch is active before all its codes are here."),
		o.Post("/batches/{application_id}/take-back", "takeBackImport", o.Operator, a.takeBackImport,
			"Take back codes that were imported by mistake, some thousand a call: call again while there are more").Concerns(a.ofBatch).
			Description("Only while nothing but imports happened to the application: 409 where a code of it was activated, frozen, redeemed, made void, " +
				"scanned or handed to a printer. When all are taken back the application is gone, and its numbers are free."),
		o.Post("/batches/{application_id}/packages", "makePackage", o.Marketer, a.makePackage,
			"Note that codes are handed to a printer; sendPackage then writes the file").Concerns(a.ofBatch).
			Description("409: another printer has codes of the range, more packages have them than `max_packages_per_code` says and no reason is given, " +
				"or some are frozen, void or spoiled."),
		o.Get("/packages", "listPackages", o.Viewer, a.listPackages, "Which codes were handed to which printer, oldest first").
			OfQuery("account"),
		o.Get("/packages/{package}", "getPackage", o.Viewer, a.getPackage, "Show a printer's package").Concerns(a.ofPackage),
		o.Post("/packages/{package}/file", "sendPackage", o.Marketer, a.sendPackage,
			"The file of a printer's package, encrypted and signed; a download that broke off is repeated so").Concerns(a.ofPackage).
			Answers("a tar in age: the manifest, its signature, the parts", ageType),
		o.Post("/packages/{package}/recall", "recallPackage", o.Marketer, a.recallPackage,
			"Freeze the codes of a package at once, and let nobody download it any more").Concerns(a.ofPackage),
		o.Post("/packages/{package}/spoiled", "spoilCodes", o.Marketer, a.spoilCodes,
			"Note that the printer destroyed codes of a package: void for ever, and in no package any more").Concerns(a.ofPackage),
		o.Get("/package-signer", "packageSigner", o.Viewer, a.packageSigner,
			"The public key by which printers check packages").AnyAccount(),
		o.Post("/codes/lookup", "lookupCode", o.Viewer, a.lookupCode,
			"Find a code by its text, its nine characters, or application and index, with its history").AnyAccount(),
	}
}

// scanOperations returns the routes for scans and their statistics.
func (a scanAPI) scanOperations() []o.Route {
	return []o.Route{
		o.Get("/scans", "listScans", o.Viewer, a.listScans, "Scans in the order in which they became known; each once").
			Description("With `from`, `to`, `user`, `rule` or `application_id` only those that match. Such a call looks at 20,000 scans at most, so that " +
				"a page may have few or none while `more` says that others follow: go on after `next`.").AnyAccount(),
		o.Get("/scans/{scan_id}", "getScan", o.Viewer, a.getScan, "Show a scan").Concerns(a.ofScan),
		o.Get("/scans/export", "exportScans", o.Viewer, a.exportScans,
			"Scans as a file, all or those that match, in the order in which they became known").
			Answers("the scans", "text/csv", parquetType).AnyAccount(),
		o.Get("/scan-nodes", "listScanNodes", o.Operator, a.listScanNodes,
			"The nodes whose journals may hold scans that are not in the ledger; none with an embedded database"),
		o.Delete("/scan-nodes/{node}", "forgetScanNode", o.Admin, a.forgetScanNode,
			"Wait no more for the scans of a node that never comes back; what it did not bring is lost; the nodes that are left"),
		o.Get("/lake/verification", "verifyLake", o.Operator, a.verifyLake,
			"Compare the lake of --lake with the ledger, day by day; 404 where this node writes none").Patient().
			Exclusive("another comparison is running: wait for its end"),
		o.Get("/statistics", "askStatistics", o.Viewer, a.askStatistics,
			"How often was scanned, by time and by what the scans have in common").AnyAccount(),
		o.Get("/statistics/unmatched", "listUnmatched", o.Viewer, a.listUnmatched,
			"What was scanned and found nothing, the most scanned first").AnyAccount(),
		o.Get("/statistics/export", "exportStatistics", o.Viewer, a.exportStatistics,
			"All rows of an answer about scans as a file, as askStatistics has them").Answers("the rows", "text/csv", parquetType).AnyAccount(),
		o.Get("/statistics/unmatched/export", "exportUnmatched", o.Viewer, a.exportUnmatched,
			"What was scanned and found nothing as a file, the most scanned first").Answers("the places", "text/csv", parquetType).AnyAccount(),
		o.Get(sharedPath, "listSharedCharts", o.Marketer, a.listSharedCharts,
			"Charts that are shared now, the newest first: the caller's, or all of them for an operator of all accounts").AnyAccount(),
		o.Post(sharedPath, "shareChart", o.Marketer, a.shareChart,
			"Make a link to one chart that others read without signing in, with an end").AnyAccount().
			Description("The chart shows what whoever shared it may see when it is read; it is gone with them."),
		o.Delete(sharedPath+"/{id}", "endSharedChart", o.Marketer, a.endSharedChart, "End the link to a chart; which one it was").
			AnyAccount(),
		o.Post("/statistics/recount", "recountStatistics", o.Operator, a.recountStatistics,
			"Count the whole ledger again and say where that differs from what is counted").Patient().
			Exclusive("another recount is running: wait for its end"),
		o.Get("/alarms", "listAlarms", o.Viewer, a.listAlarms, "Codes that look as if they were copied, and spoiled ones that were scanned, oldest alarm first").AnyAccount(),
		o.Get("/alarms/export", "exportAlarms", o.Viewer, a.exportAlarms, "Alarms as a file, oldest first, with their reasons in a language").
			Answers("the alarms", "text/csv", parquetType).AnyAccount(),
		o.Post("/alarms/{id}/acknowledge", "acknowledgeAlarm", o.Marketer, a.acknowledgeAlarm,
			"Note that somebody has seen an alarm; the first one stays").Concerns(a.ofAlarm),
		o.Post("/alarms/{id}/dismiss", "dismissAlarm", o.Marketer, a.dismissAlarm,
			"Take an alarm back: the code is no copy. Its page is as before, and only later scans can alarm it again; the first one stays").Concerns(a.ofAlarm),
		o.Get("/history/resolve", "resolveThen", o.Viewer, a.server().resolveThen,
			"What a link or a code opened at a past moment, and who changed it since").AnyAccount(),
	}
}

// webhookOperations returns the routes for webhooks that receive scans and alarms.
func (a webhookAPI) webhookOperations() []o.Route {
	return []o.Route{
		o.Get("/webhooks", "listWebhooks", o.Viewer, a.listWebhooks, "Who is told of scans and alarms, without the secrets"),
		o.Post("/webhooks", "createWebhook", o.Operator, a.createWebhook,
			"Tell somebody of scans of chosen codes and rules, and of alarms, from now on"),
		o.Put("/webhooks/{id}", "putWebhook", o.Operator, a.putWebhook,
			"Change what a webhook is told, where it is, or whether it is on; what waits for it stays"),
		o.Delete("/webhooks/{id}", "deleteWebhook", o.Operator, a.deleteWebhook,
			"Remove a webhook and what waits for it; the webhooks that are left"),
		o.Post("/webhooks/{id}/test", "testWebhook", o.Operator, a.testWebhook, "Send a message that tells of nothing"),
		o.Get("/deliveries", "listDeliveries", o.Operator, a.listDeliveries,
			"What was sent to webhooks and what became of it, newest first"),
		o.Post("/deliveries/{id}/replay", "replayDelivery", o.Operator, a.replayDelivery,
			"Send something again, whatever became of it, with the same event id"),
	}
}

// serverOperations returns the routes for API calls, settings, people and the audit log.
func (a serverAPI) serverOperations() []o.Route {
	return []o.Route{
		o.Get("/behaviours", "listBehaviours", o.Viewer, a.listBehaviours,
			"What this server does where the platform might differ, and how sure each line is").AnyAccount(),
		o.Get("/calls", "listKeptCalls", o.Operator, a.listKeptCalls,
			"Calls of the wire of the last seven days with request and answer, newest first; secrets are masked").
			Description("An answer looks at some thousands of calls at most, so that it may have few or none while `next` says that there are older " +
				"ones: go on with it as `before`. `examined` is how many it looked at, from `since` to `until`. Calls that showed no token and " +
				"no secret are not kept. The latest of other nodes are a second behind.").OfQuery("account"),
		o.Get("/call-errors", "listCallErrors", o.Operator, a.listCallErrors,
			"Calls of the wire that failed, by endpoint and number, the most frequent first").
			Description("Of as many calls as one answer looks at, from `since` to `until`; `next`, as `before`, goes on with older ones.").OfQuery("account"),
		o.Get("/calls/{rid}", "getCall", o.Operator, a.getCall,
			"Why a call was answered so: what was wrong, and the behaviours that decided, by its request id").Concerns(a.ofCall),
		o.Get("/deviations", "listDeviations", o.Viewer, a.listDeviations,
			"What callers did that this server let pass and the platform may mind, each with what to change in the caller").
			Description("`evidence_level` is how sure it is that the platform minds; `first_rid` and `last_rid` are request ids. At most 10,000, by account, " +
				"endpoint and behaviour. The latest of other nodes are a second behind.").OfQuery("account"),
		o.Get("/deviations/coverage", "coverDeviations", o.Viewer, a.coverDeviations,
			"What the platform does to every program: which of it happened to the calls made here, and a command for each that did not").
			Description("Of the calls that were made: what can happen to none of them is left out. It looks at as many calls as one answer of " +
				"`/calls` does.").OfQuery("account"),
		o.Delete("/deviations", "forgetDeviations", o.Operator, a.forgetDeviations,
			"Begin the list of deviations anew; those that are left"),
		o.Get("/settings", "getSettings", o.Viewer, a.getSettings, "The settings in force").AnyAccount(),
		o.Put("/settings", "putSettings", o.Admin, a.putSettings, "Change settings: fields that are left out stay").Wants(settingsChange),
		o.Get("/settings/described", "describeSettings", o.Viewer, a.describeSettings,
			"Every setting with its value, its default on this server and what it means"),
		o.Delete("/settings/{name}", "resetSetting", o.Admin, a.resetSetting,
			"Take back what was chosen of a setting: its default counts; the settings in force"),
		o.Get("/scan-keys", "listScanKeys", o.Operator, a.listScanKeys, "Keys of apps that scan, without the keys themselves"),
		o.Post("/scan-keys", "createScanKey", o.Admin, a.createScanKey, "Make a key for an app; one of the same name is replaced"),
		o.Delete("/scan-keys/{name}", "deleteScanKey", o.Admin, a.deleteScanKey, "End a key at once; the keys that are left"),
		o.Get("/people", "listPeople", o.Admin, a.listPeople, "Who may sign in, by name; never a password"),
		o.Post("/people", "addPerson", o.Admin, a.addPerson, "Let somebody sign in, with a role for all accounts or for some"),
		o.Patch("/people/{name}", "changePerson", o.Admin, a.changePerson,
			"Change the role, accounts, password or second factor of a person, who is signed out everywhere by it"),
		o.Delete("/people/{name}", "deletePerson", o.Admin, a.deletePerson,
			"Let a person sign in no more, and end all their sessions; the people that are left"),
		o.Delete("/people/{name}/sessions", "signOutPerson", o.Admin, a.signOutPerson,
			"End all sessions of a person, and the login links that nobody used yet; the person stays"),
		o.Post("/login-links", "makeLoginLink", o.Admin, a.makeLoginLink,
			"A link that signs in to the console once, within ten minutes, without a password and a second factor"),
		o.Get("/admin-keys", "listAdminKeys", o.Admin, a.listAdminKeys, "Keys of programs for this API, without the keys themselves"),
		o.Post("/admin-keys", "addAdminKey", o.Admin, a.addAdminKey, "Make a key for a program, with a role for all accounts or for some"),
		o.Delete("/admin-keys/{id}", "deleteAdminKey", o.Admin, a.deleteAdminKey, "End a key at once; the keys that are left"),
		o.Get("/refused-credentials", "listRefusedCredentials", o.Operator, a.listRefusedCredentials,
			"Wrong tokens, keys and secrets of the last day that this node saw, by the address that they come from, the most frequent first"),
		o.Get("/changes", "listChanges", o.Operator, a.listChanges,
			"The audit log: every change, by whom and through which call, oldest first"),
		o.Post("/audit/verify", "verifyAudit", o.Operator, a.verifyAudit,
			"Verify the whole audit log: its chain of hashes, and that rules, accounts and codes are what it says").Patient(),
	}
}

// archiveOperations returns the routes that export and import all data as files.
func (a archiveAPI) archiveOperations() []o.Route {
	return []o.Route{
		o.Post("/export", "exportEverything", o.Admin, a.exportEverything,
			"An archive of everything as it is now, its keys sealed by a passphrase").
			Answers("the archive, for qrjump import", "application/gzip").Exclusive("another export is running: wait for its end"),
		o.Post("/drills", "noteDrill", o.Operator, a.noteDrill,
			"Note in the audit log what a restore drill of an archive found, for the console and doctor"),
		o.Get("/export/rules", "exportRules", o.RulesEditor, a.exportRules,
			"All rules, a JSON object a line as in a seed, oldest first, as they are at one moment").
			Answers("the lines", ndjson).Exclusive("another export of rules is running: wait for its end"),
		o.Get("/export/accounts", "exportAccounts", o.Operator, a.exportAccounts,
			"All accounts without their secrets, a JSON object a line as in a seed, as they are at one moment").
			Answers("the lines", ndjson).Exclusive("another export of accounts is running: wait for its end"),
		o.Post("/import/rules", "importRules", o.Operator, a.importRules,
			"Load rules, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of rules is running: wait for its end"),
		o.Post("/import/accounts", "importAccounts", o.Operator, a.importAccounts,
			"Load accounts, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of accounts is running: wait for its end"),
	}
}
