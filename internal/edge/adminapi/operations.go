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
		o.Get("/account-names", "completeAccounts", o.Viewer, a.nameAccounts, "Get the names of accounts by AppID").AnyAccount(),
		o.Get("/search", "search", o.Viewer, a.search, "Search accounts, rules, batches, codes, activities and calls by a text").
			AnyAccount().Description("Codes and serial numbers are found only for callers who may look codes up, calls only for callers " +
			"who may read the call log. Rules match if their link or path begins with the text; the newest 2,000 rules also match " +
			"if they contain it."),
		o.Get("/accounts/{appid}", "getAccount", o.Viewer, a.getAccount, "Get an account"),
		o.Get("/accounts/{appid}/abilities", "listAbilities", o.Viewer, a.listAbilities,
			"List what an account can do, with the missing requirement of each ability that it lacks"),
		o.Put("/accounts/{appid}", "putAccount", o.Operator, a.putAccount, "Create or replace an account"),
		o.Delete("/accounts/{appid}", "deleteAccount", o.Operator, a.deleteAccount,
			"Delete an account with its members, links, tokens and authorisations; 409 if something depends on it").
			Description("Delete the rules and GS1 links that open the account and its codes first. An account that applied for codes or " +
				"has permanent QR codes cannot be deleted, because printed codes must resolve. The audit log and statistics keep their " +
				"records of the account."),
		o.Put("/accounts/{appid}/versions", "setVersions", o.Operator, a.setVersions, "Set which versions of a Mini Program exist"),
		o.Put("/accounts/{appid}/jump", "setRulesEnabled", o.Operator, a.setJump, "Enable or disable all rules of an account"),
		o.Delete("/accounts/{appid}/tokens", "revokeTokens", o.Operator, a.endTokens,
			"Revoke all access tokens of an account, including those of authorised platforms"),
		o.Put("/accounts/{appid}/members/{user}", "putMember", o.Operator, a.putMember, "Grant a user a role in an account"),
		o.Delete("/accounts/{appid}/members/{user}", "deleteMember", o.Operator, a.deleteMember, "Remove a user's role in an account"),
		o.Get("/accounts/{appid}/links", "listLinks", o.Viewer, a.listLinks, "List the links of a service account in any state"),
		o.Put("/accounts/{appid}/links/{mini_program}", "putLink", o.Operator, a.putLink, "Link a service account to a Mini Program"),
		o.Delete("/accounts/{appid}/links/{mini_program}", "deleteLink", o.Operator, a.deleteLink, "Delete a link"),
		o.Post("/accounts/{appid}/links/{mini_program}/confirm", "confirmLink", o.Operator, a.confirmLink,
			"Approve or reject a link, or its removal, as the administrator of one side"),
		o.Get("/accounts/{appid}/quota", "getQuota", o.Viewer, a.getQuota, "Get the number of publishes left this month"),
		o.Get("/accounts/{appid}/notifications", "listNotifications", o.Viewer, a.listNotices,
			"List notifications to an account about the operator's changes, newest first"),
		o.Get("/accounts/{appid}/appearance", "getAppearance", o.Viewer, a.getAppearance,
			"Get an account's appearance on pages for buyers"),
		o.Put("/accounts/{appid}/appearance", "putAppearance", o.Operator, a.putAppearance,
			"Set an account's appearance on pages for buyers; omitted fields are cleared, except the logo").
			Description("A logo is a PNG, JPEG or WebP of at most 512 KiB and 4,194,304 pixels in Base64; it is converted to a PNG of " +
				"at most 384 × 192 pixels."),
		o.Get("/users/{user}/openid", "getOpenID", o.Operator, a.getOpenID, "Get a user's openid for an account").OfQuery("appid"),
		o.Delete("/users/{user}/scans", "eraseUser", o.Admin, a.scans().eraseUser,
			"Anonymise a user's scans and delete all other data stored under the user's openids, such as tickets and logins; "+
				"statistics stay").Patient(),
	}
}

// platformOperations returns the routes for third-party platforms.
func (a accountAPI) platformOperations() []o.Route {
	return []o.Route{
		o.Get("/components", "listComponents", o.Viewer, a.listComponents, "List third-party platforms by AppID"),
		o.Get("/components/{component}", "getComponent", o.Viewer, a.getComponent,
			"Get a third-party platform and the accounts that authorised it"),
		o.Put("/components/{component}", "putComponent", o.Operator, a.putComponent,
			"Create or update a third-party platform; its authorisations stay"),
		o.Delete("/components/{component}", "deleteComponent", o.Operator, a.deleteComponent,
			"Delete a third-party platform, its tokens and its authorisations"),
		o.Get("/components/{component}/pushes", "listPushes", o.Viewer, a.listPushes,
			"List messages to a platform's event URL with the responses, newest first; tickets and codes are masked"),
		o.Delete("/components/{component}/authorizations/{appid}", "revokeAuthorization", o.Operator, a.withdrawAuthorization,
			"Revoke an account's authorisation of a platform and the platform's tokens for the account"),
		o.Get("/accounts/{appid}/authorizations", "listAccountAuthorizations", o.Viewer, a.listHolders,
			"List the platforms that an account authorised"),
		o.Post("/authorizations/lookup", "lookupAuthorization", o.Operator, a.lookupAuthorization,
			"Look up what an authorisation link asks for, and the accounts for which the caller may grant it").AnyAccount(),
		o.Post("/authorizations", "grantAuthorization", o.Operator, a.agreeToPlatform,
			"Authorise a platform for an account, as the page behind an authorisation link does; each link works once").AnyAccount(),
		o.Delete("/accounts/{appid}/authorizations/{component}", "revokeAccountAuthorization", o.Operator, a.withdrawFromAccount,
			"Revoke a platform's authorisation, addressed by account"),
	}
}

// ruleOperations returns the routes for rules and domains.
func (a ruleAPI) ruleOperations() []o.Route {
	return []o.Route{
		o.Get("/rules", "listRules", o.Viewer, a.listRules, "List rules of all owners, oldest first").AnyAccount().
			Description("With `text` or `state`, one request examines at most 2,000 rules: a page may be empty although `next` names a " +
				"further one."),
		o.Get("/rules/names", "completeRules", o.Viewer, a.nameRules,
			"Get the owners and prefixes of rules by their ids, for names in statistics").AnyAccount().
			Description("Deleted rules are included while the audit log contains them."),
		o.Post("/accounts/{appid}/rules", "addRule", o.RulesEditor, a.addRule,
			"Add a rule for an account; the checks, including the verification file, are those of qrcodejumpadd"),
		o.Put("/accounts/{appid}/rules", "editRule", o.RulesEditor, a.editRule,
			"Update a rule of an account; omitted test links stay; a published rule keeps its page"),
		o.Post("/accounts/{appid}/rules/publish", "publishRule", o.RulesEditor, a.publishRule,
			"Publish a rule of an account, which uses one publish of this month's quota"),
		o.Delete("/accounts/{appid}/rules", "deleteRule", o.RulesEditor, a.deleteRule, "Delete a rule of an account and return it"),
		o.Post("/accounts/{appid}/rules/check", "checkRule", o.RulesEditor, a.checkRule,
			"Check whether a rule can be added: result, URL of the verification file and whether it is found; changes nothing"),
		o.Get("/rules/history", "getRuleHistory", o.Viewer, a.ruleHistory, "List the changes to a prefix, newest first").AnyAccount(),
		o.Get("/rules/conflicts", "listRuleConflicts", o.Viewer, a.ruleOccupiers,
			"List the rules that prevent other accounts from adding a prefix").AnyAccount(),
		o.Post("/rules/changes/{seq}/undo", "undoRuleChange", o.RulesEditor, a.server().undoRuleChange,
			"Undo a change of a rule, if no later change follows it").
			Description("An undo is itself a change that can be undone. It neither uses nor refunds a publish. 409 names the later " +
				"change."),
		o.Post("/rules/plan/replay", "replayPlan", o.RulesEditor, a.server().replayPlan,
			"Replay the scans of the last days against planned rules").Patient().AnyAccount().
			Description("Nothing is changed. Every scanned link is resolved by the current rules and by the planned rules."),
		o.Post("/rules/force-delete", "forceDeleteRules", o.Operator, a.releasePrefix,
			"Delete other owners' rules below a prefix after its domain changed hands; used publishes are not refunded; the "+
				"owners are notified").Patient(),
		o.Get("/verifications", "listVerifications", o.Viewer, a.listConfirmations,
			"List checks of verification files with the reasons for failures, newest first").OfQuery("owner"),
		o.Get("/reverifications", "listReverifications", o.Viewer, a.listRechecks,
			"List results of the nightly reverification of verification files; a missing file does not affect a rule").OfQuery("owner"),
		o.Post("/reverifications", "reverifyNow", o.RulesEditor, a.recheckNow,
			"Start a reverification of all verification files and wait for the first result"),
		o.Get("/domains", "listDomains", o.Viewer, a.listDomains, "List trusted and denied hosts"),
		o.Put("/domains/{host}", "putDomain", o.Operator, a.putDomain, "Trust a host, or deny it and its subdomains"),
		o.Delete("/domains/{host}", "deleteDomain", o.Operator, a.deleteDomain, "Remove a host from the trusted and denied hosts"),
	}
}

// gs1Operations returns the routes for links of GS1 keys.
func (a ruleAPI) gs1Operations() []o.Route {
	return []o.Route{
		o.Get(gs1Links, "listGS1Links", o.Viewer, a.listGS1, "List links of GS1 keys, ordered by key").AnyAccount(),
		o.Post(gs1Links, "addGS1Links", o.RulesEditor, a.addGS1, "Create the links of a GS1 key; 409 if it has links already").AnyAccount(),
		o.Get(gs1Links+"/{key...}", "getGS1Links", o.Viewer, a.getGS1, "Get the links of a GS1 key").AnyAccount(),
		o.Put(gs1Links+"/{key...}", "putGS1Links", o.RulesEditor, a.putGS1,
			"Replace the links of a GS1 key, which also apply to keys below it that have none; omitted fields are cleared").
			AnyAccount().Description("409: the primary key, or its company prefix (setting gs1_prefixes), belongs to another account, " +
			"which the response names."),
		o.Delete(gs1Links+"/{key...}", "deleteGS1Links", o.RulesEditor, a.deleteGS1,
			"Delete the links of a GS1 key and return them").AnyAccount(),
		o.Post("/gs1/changes/{seq}/undo", "undoGS1Change", o.RulesEditor, a.undoGS1,
			"Undo a change of a GS1 key, if no later change follows it").AnyAccount(),
		o.Post("/gs1/transfer", "transferGS1", o.Operator, a.transferGS1,
			"Transfer a GS1 key with the keys below it, or a GS1 Company Prefix with its keys, to another account"),
		o.Get("/export/gs1", "exportGS1Links", o.Viewer, a.exportGS1,
			"Export the links of all GS1 keys as JSON Lines in the format of the seed file").AnyAccount().Answers("the lines", ndjson),
		o.Post("/import/gs1", "importGS1Links", o.RulesEditor, a.importGS1,
			"Import links of GS1 keys from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and "+
				"the response names it").AnyAccount().Patient().Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another " +
			"import of GS1 links is running; try again when it has ended"),
	}
}

// codeOperations returns the routes for batches, codes and printers' packages.
func (a codeAPI) codeOperations() []o.Route {
	return []o.Route{
		o.Get("/orders", "listOrders", o.Viewer, a.listOrders, "List orders of codes with their progress, newest first").AnyAccount(),
		o.Post("/accounts/{appid}/orders", "createOrder", o.Marketer, a.placeOrder,
			"Order codes for an account; with the setting order_approval_required, a second person must approve the order first"),
		o.Post("/accounts/{appid}/orders/decisions", "decideOrder", o.Marketer, a.decideOrder, "Approve or reject an order of codes"),
		o.Get("/batches", "listBatches", o.Viewer, a.listBatches, "List applications for codes, oldest first").AnyAccount(),
		o.Get("/batches/{application_id}", "getBatch", o.Viewer, a.getBatch, "Get an application for codes").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/events", "listCodeEvents", o.Viewer, a.listCodeEvents,
			"List changes of a batch's codes, oldest first; changes with a future `from` are scheduled").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/runs", "listCodeRuns", o.Viewer, a.listCodeRuns,
			"List index ranges of an application with their current state: active, frozen, void, redeemed or free").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/codes", "listCodes", o.Operator, a.listCodes,
			"Download at most 50,000 codes of a range, one line each with index, code and code text").Concerns(a.ofBatch).
			Answers("the codes", "text/csv"),
		o.Post("/batches/{application_id}/states", "changeCodes", o.Marketer, a.changeCodes,
			"Freeze, unfreeze, void or redeem codes; void is permanent").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/activations", "activateCodes", o.Marketer, a.activateCodes,
			"Activate a range of codes, now or at a given time").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/deactivations", "deactivateCodes", o.Marketer, a.withdrawCodes,
			"Deactivate codes, now or at a given time").Concerns(a.ofBatch),
		o.Post("/batches/{application_id}/retarget", "retargetCodes", o.Marketer, a.retargetCodes,
			"Change the page that the active codes of a range open; statistics stay with the original activity").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/codes/{code_index}/scans", "getCodeScans", o.Viewer, a.getCodeScans,
			"Get the scans of a code with their counts, first scan and copy indicators").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/alarm", "getBatchAlarm", o.Viewer, a.scans().getBatchAlarm,
			"Get the score from which on an application's codes raise an alarm as possibly copied").Concerns(a.ofBatch),
		o.Put("/batches/{application_id}/alarm", "putBatchAlarm", o.Operator, a.scans().putBatchAlarm,
			"Set the score from which on an application's codes raise an alarm, or turn alarms off; by default the setting "+
				"alarm_threshold applies; open alarms stay").Concerns(a.ofBatch),
		o.Get("/batches/{application_id}/alarm/replay", "replayAlarms", o.Viewer, a.scans().replayAlarms,
			"Replay the last 90 days with another alarm threshold").Concerns(a.ofBatch).Patient().Exclusive("another replay is running; " +
			"try again when it has ended").
			Description("Nothing is changed. The scans of codes that reach the threshold are read from the scan log again; dismissals do " +
				"not reduce a score here."),
		o.Put("/batches/{application_id}/serials", "bindSerials", o.Marketer, a.bindSerials,
			"Assign the brand's serial numbers to codes, either to all given codes or to none").Concerns(a.ofBatch).
			Description("Repeating a request changes nothing. 409: a code has another serial number and `replace` is not set, or the " +
				"serial number belongs to another code."),
		o.Post("/accounts/{appid}/imported-batches", "createImport", o.Operator, a.beginImport,
			"Create a batch for codes generated elsewhere, which importCodes then imports; repeating a request returns "+
				"the existing batch").Description("409: the account used this `isv_application_id` for another application, or " +
			"`application_id` belongs to another account."),
		o.Put("/batches/{application_id}/imported-codes", "importCodes", o.Operator, a.importCodes,
			"Import codes of another system, all lines or none: dot matrix, original code, index and code text, or only texts").
			Concerns(a.ofBatch).Patient().
			Takes(fourColumns, "lines of the wire's four columns ordered by index, or one text per line if the text of the "+
				"application has {token:N}; at most 50,000 lines").
			Description("Lines that are already imported change nothing. 422 names a line that is wrong, that was imported with another " +
				"text, or whose text belongs to another code. No code of the batch can be active before all are imported."),
		o.Post("/batches/{application_id}/undo-import", "undoImport", o.Operator, a.takeBackImport,
			"Undo an import, some thousand codes per request; repeat while `more` is true").Concerns(a.ofBatch).
			Description("409 if a code of the application was activated, frozen, redeemed, voided, scanned or put into a printer's " +
				"package. After the last code the application is deleted and its ids can be used again."),
		o.Post("/batches/{application_id}/packages", "createPackage", o.Marketer, a.makePackage,
			"Create a printer's package of codes; downloadPackage then returns the file").Concerns(a.ofBatch).
			Description("409: another printer has codes of the range, codes are in `max_packages_per_code` packages and no reason is " +
				"given, or some are frozen, void or spoiled."),
		o.Get("/packages", "listPackages", o.Viewer, a.listPackages, "List printers' packages, oldest first").OfQuery("account"),
		o.Get("/packages/{package}", "getPackage", o.Viewer, a.getPackage, "Get a printer's package").Concerns(a.ofPackage),
		o.Post("/packages/{package}/file", "downloadPackage", o.Marketer, a.sendPackage,
			"Download the encrypted and signed file of a printer's package; can be repeated after an interrupted download").
			Concerns(a.ofPackage).
			Answers("an age-encrypted tar: the manifest, its signature, the parts", ageType),
		o.Post("/packages/{package}/recall", "recallPackage", o.Marketer, a.recallPackage,
			"Recall a package: freeze its codes and refuse further downloads").Concerns(a.ofPackage),
		o.Post("/packages/{package}/spoiled", "markCodesSpoiled", o.Marketer, a.spoilCodes,
			"Record that a printer destroyed codes of a package, which voids them permanently and removes them from packages").
			Concerns(a.ofPackage),
		o.Get("/package-signer", "getPackageSigner", o.Viewer, a.packageSigner,
			"Get the public key with which printers verify packages").AnyAccount(),
		o.Post("/codes/lookup", "lookupCode", o.Viewer, a.lookupCode,
			"Find a code, with its history, by its text, its nine characters, or application and index").AnyAccount(),
	}
}

// scanOperations returns the routes for scans and their statistics.
func (a scanAPI) scanOperations() []o.Route {
	return []o.Route{
		o.Get("/scans", "listScans", o.Viewer, a.listScans, "List scans in the order in which the server recorded them, each once").
			Description("With `from`, `to`, `user`, `rule` or `application_id`, one request examines at most 20,000 scans: a page may " +
				"be empty although `more` is true; continue after `next`.").AnyAccount(),
		o.Get("/scans/{scan_id}", "getScan", o.Viewer, a.getScan, "Get a scan").Concerns(a.ofScan),
		o.Get("/scans/export", "exportScans", o.Viewer, a.exportScans,
			"Export all or the matching scans as a file, in the order in which the server recorded them").
			Answers("the scans", "text/csv", parquetType).AnyAccount(),
		o.Get("/scan-nodes", "listScanNodes", o.Operator, a.listScanNodes,
			"List the nodes whose journals may contain scans that are not in the scan log; always empty with an embedded database"),
		o.Delete("/scan-nodes/{node}", "deleteScanNode", o.Admin, a.forgetScanNode,
			"Stop waiting for the scans of a lost node, whose undelivered scans are lost; returns the remaining nodes"),
		o.Get("/lake/verification", "verifyLake", o.Operator, a.verifyLake,
			"Compare the data lake with the scan log for each day; 404 if the node runs without --lake").Patient().Exclusive("another " +
			"comparison is running; try again when it has ended"),
		o.Get("/statistics", "getStatistics", o.Viewer, a.askStatistics,
			"Count scans by time and by dimensions such as rule or batch").AnyAccount(),
		o.Get("/statistics/unmatched", "listUnmatched", o.Viewer, a.listUnmatched,
			"List scanned texts that resolved to nothing, most scans first").AnyAccount(),
		o.Get("/statistics/export", "exportStatistics", o.Viewer, a.exportStatistics,
			"Export all rows of getStatistics as a file").Answers("the rows", "text/csv", parquetType).AnyAccount(),
		o.Get("/statistics/unmatched/export", "exportUnmatched", o.Viewer, a.exportUnmatched,
			"Export scanned texts that resolved to nothing as a file, most scans first").
			Answers("the unmatched locations", "text/csv", parquetType).AnyAccount(),
		o.Get(sharedPath, "listSharedCharts", o.Marketer, a.listSharedCharts,
			"List shared charts, newest first: the caller's own, or all for an operator of all accounts").AnyAccount(),
		o.Post(sharedPath, "shareChart", o.Marketer, a.shareChart,
			"Create a link to a chart that can be read without signing in until it expires").AnyAccount().
			Description("The chart shows only data that its creator may see at the time of reading, and is deleted with its creator."),
		o.Delete(sharedPath+"/{id}", "revokeSharedChart", o.Marketer, a.endSharedChart, "Revoke the link to a chart and return it").
			AnyAccount(),
		o.Post("/statistics/recount", "recountStatistics", o.Operator, a.recountStatistics,
			"Recount the whole scan log and report differences from the statistics").Patient().Exclusive("another recount is running; " +
			"try again when it has ended"),
		o.Get("/alarms", "listAlarms", o.Viewer, a.listAlarms,
			"List alarms about codes that appear to be copied or were scanned in an unusual state, and about bursts of scans, oldest first").AnyAccount(),
		o.Get("/alarms/export", "exportAlarms", o.Viewer, a.exportAlarms,
			"Export alarms as a file, oldest first, with reasons in the requested language").
			Answers("the alarms", "text/csv", parquetType).AnyAccount(),
		o.Post("/alarms/{id}/acknowledge", "acknowledgeAlarm", o.Marketer, a.acknowledgeAlarm,
			"Acknowledge an alarm, confirm it as justified, or set its case and note; an earlier acknowledgement or "+
				"confirmation stays unchanged").Concerns(a.ofAlarm),
		o.Post("/alarms/{id}/dismiss", "dismissAlarm", o.Marketer, a.dismissAlarm,
			"Dismiss an alarm because the code is not copied: it opens its page again, and only later scans can raise another "+
				"alarm; a second dismissal changes nothing").Concerns(a.ofAlarm),
		o.Get("/cases", "listCases", o.Viewer, a.listCases, "List cases, which group alarms, newest first").AnyAccount(),
		o.Post("/cases", "createCase", o.Marketer, a.createCase, "Create a case, and acknowledge the alarms that it contains").AnyAccount(),
		o.Get("/cases/{id}", "getCase", o.Viewer, a.getCase, "Get a case with its alarms").Concerns(a.ofCase),
		o.Put("/cases/{id}", "putCase", o.Marketer, a.putCase,
			"Update a case: title, state, assignee, note, and the alarms that it contains").Concerns(a.ofCase),
		o.Get("/cases/{id}/sheet", "getCaseSheet", o.Viewer, a.getCaseSheet,
			"Get the report of a case for printing: its alarms with their reasons, places, times and scans").
			Answers("the report", "application/pdf", "text/html").Concerns(a.ofCase),
		o.Get("/history/resolve", "resolveAsOf", o.Viewer, a.server().resolveThen,
			"Resolve a link or a code as of a past time, with the changes since").AnyAccount(),
	}
}

// webhookOperations returns the routes for webhooks that receive scans and alarms.
func (a webhookAPI) webhookOperations() []o.Route {
	return []o.Route{
		o.Get("/webhooks", "listWebhooks", o.Viewer, a.listWebhooks, "List webhooks without their secrets"),
		o.Post("/webhooks", "createWebhook", o.Operator, a.createWebhook,
			"Create a webhook that receives future scans of chosen codes and rules, and alarms"),
		o.Put("/webhooks/{id}", "putWebhook", o.Operator, a.putWebhook,
			"Update the events, URL or state of a webhook; pending deliveries stay"),
		o.Delete("/webhooks/{id}", "deleteWebhook", o.Operator, a.deleteWebhook,
			"Delete a webhook and its pending deliveries; returns the remaining webhooks"),
		o.Post("/webhooks/{id}/test", "testWebhook", o.Operator, a.testWebhook, "Send a test event to a webhook"),
		o.Get("/deliveries", "listDeliveries", o.Operator, a.listDeliveries,
			"List deliveries to webhooks with their results, newest first"),
		o.Post("/deliveries/{id}/replay", "replayDelivery", o.Operator, a.replayDelivery,
			"Send a delivery again with the same event id, whatever its result was"),
	}
}

// serverOperations returns the routes for API calls, settings, people and the audit log.
func (a serverAPI) serverOperations() []o.Route {
	return []o.Route{
		o.Get("/behaviours", "listBehaviours", o.Viewer, a.listBehaviours,
			"List behaviours in which the platform may differ from this server, with the level of evidence").AnyAccount(),
		o.Get("/calls", "listCalls", o.Operator, a.listKeptCalls,
			"List wire calls of the last seven days with request and response, newest first; secrets are masked").
			Description("One request examines a few thousand calls: a page may be empty although `next` names older calls; pass it as " +
				"`before`. `examined` is the number of calls examined, from `since` to `until`. Calls without a token or secret are not " +
				"recorded. Calls of other nodes appear about a second late.").OfQuery("account"),
		o.Get("/call-errors", "listCallErrors", o.Operator, a.listCallErrors,
			"Count failed wire calls by endpoint and error number, most frequent first").
			Description("Covers the calls that one request examines, from `since` to `until`; pass `next` as `before` for older ones.").
			OfQuery("account"),
		o.Get("/calls/{rid}", "getCall", o.Operator, a.getCall,
			"Explain the response to a call by its request ID: the error, and the behaviours that determined it").Concerns(a.ofCall),
		o.Get("/deviations", "listDeviations", o.Viewer, a.listDeviations,
			"List deviations: calls that this server accepted and the platform may reject, with the necessary change in the caller").
			Description("`evidence_level` rates the evidence that the platform refuses it; `first_rid` and `last_rid` are request ids. " +
				"At most 10,000, ordered by account, endpoint and behaviour. Deviations on other nodes appear about a second late.").
			OfQuery("account"),
		o.Get("/deviations/coverage", "getDeviationCoverage", o.Viewer, a.coverDeviations,
			"List the conditions that every client meets on the platform, whether each occurred here, and a command that causes it").
			Description("Conditions that cannot affect any endpoint called so far are left out. One request examines as many calls as " +
				"one of `/calls`.").OfQuery("account"),
		o.Delete("/deviations", "resetDeviations", o.Operator, a.forgetDeviations,
			"Clear the list of deviations; returns the remaining ones"),
		o.Get("/settings", "getSettings", o.Viewer, a.getSettings, "Get the settings in effect").AnyAccount(),
		o.Put("/settings", "putSettings", o.Admin, a.putSettings, "Update settings; omitted fields stay").Wants(settingsChange),
		o.Get("/settings/described", "describeSettings", o.Viewer, a.describeSettings,
			"List every setting with its value, its default on this server and its meaning"),
		o.Delete("/settings/{name}", "resetSetting", o.Admin, a.resetSetting,
			"Reset a setting to its default; returns the settings in effect"),
		o.Get("/scan-keys", "listScanKeys", o.Operator, a.listScanKeys, "List keys of scanning apps without the secrets"),
		o.Post("/scan-keys", "createScanKey", o.Admin, a.createScanKey, "Create a key for a scanning app; replaces one of the same name"),
		o.Delete("/scan-keys/{name}", "deleteScanKey", o.Admin, a.deleteScanKey, "Delete a key; returns the remaining keys"),
		o.Get("/people", "listPeople", o.Admin, a.listPeople, "List people who may sign in, sorted by name, without passwords"),
		o.Post("/people", "createPerson", o.Admin, a.addPerson, "Add a person who may sign in, with a role for all or for some accounts"),
		o.Patch("/people/{name}", "updatePerson", o.Admin, a.changePerson,
			"Change a person's role, accounts, password or second factor, which ends all sessions of the person"),
		o.Delete("/people/{name}", "deletePerson", o.Admin, a.deletePerson,
			"Delete a person and all the person's sessions; returns the remaining people"),
		o.Delete("/people/{name}/sessions", "deleteSessions", o.Admin, a.signOutPerson,
			"End all sessions and unused login links of a person"),
		o.Post("/login-links", "createLoginLink", o.Admin, a.makeLoginLink,
			"Create a link that signs in to the console once, within ten minutes, without a password or second factor"),
		o.Get("/admin-keys", "listAdminKeys", o.Admin, a.listAdminKeys, "List keys for this API without the secrets"),
		o.Post("/admin-keys", "createAdminKey", o.Admin, a.addAdminKey,
			"Create a key for this API, with a role for all or for some accounts"),
		o.Delete("/admin-keys/{id}", "deleteAdminKey", o.Admin, a.deleteAdminKey, "Delete a key; returns the remaining keys"),
		o.Get("/failed-authentications", "listFailedAuthentications", o.Operator, a.listRefusedCredentials,
			"List failed authentications on this node in the last day by client address, most frequent first"),
		o.Get("/changes", "listChanges", o.Operator, a.listChanges,
			"List entries of the audit log, oldest first, with actor and request ID"),
		o.Post("/audit/verify", "verifyAudit", o.Operator, a.verifyAudit,
			"Verify the audit log's hash chain, and that rules, accounts and codes agree with it").Patient(),
	}
}

// archiveOperations returns the routes that export and import all data as files.
func (a archiveAPI) archiveOperations() []o.Route {
	return []o.Route{
		o.Post("/export", "exportAll", o.Admin, a.exportEverything,
			"Export all data, or the data of some accounts, as an archive whose keys are encrypted with a passphrase").
			Answers("the archive, for qrjump import", "application/gzip").Exclusive("another export is running; try again when it has " +
			"ended"),
		o.Post("/drills", "recordDrill", o.Operator, a.noteDrill,
			"Record the result of a restore drill in the audit log, for the console and qrjump doctor"),
		o.Get("/export/rules", "exportRules", o.RulesEditor, a.exportRules,
			"Export a consistent snapshot of all rules as JSON Lines in the format of the seed file, oldest first").
			Answers("the lines", ndjson).Exclusive("another export of rules is running; try again when it has ended"),
		o.Get("/export/accounts", "exportAccounts", o.Operator, a.exportAccounts,
			"Export a consistent snapshot of all accounts without secrets as JSON Lines in the format of the seed file").
			Answers("the lines", ndjson).Exclusive("another export of accounts is running; try again when it has ended"),
		o.Post("/import/rules", "importRules", o.Operator, a.importRules,
			"Import rules from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and the "+
				"response names it").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of rules is running; try again when it has ended"),
		o.Post("/import/accounts", "importAccounts", o.Operator, a.importAccounts,
			"Import accounts from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and the "+
				"response names it").Patient().
			Description("To move accounts from another cell with all their data, send an archive of `exportAll` with `accounts`: "+
				"Content-Type application/gzip, and its passphrase in Base64 in the header "+archivePassphrase+".").
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of accounts is running; try again when it has ended"),
	}
}
