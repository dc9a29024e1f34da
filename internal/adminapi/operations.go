package adminapi

import o "github.com/qrjump/qrjump/internal/operations"

// Operations is the whole API on one screen: path, name, the least role that may
// call, the function, and what it does.
func (a *Admin) Operations() []o.Operation {
	return []o.Operation{
		o.Get("/accounts", "listAccounts", o.Viewer, a.listAccounts, "List accounts by AppID"),
		o.Get("/accounts/{appid}", "getAccount", o.Viewer, a.getAccount, "Show an account"),
		o.Put("/accounts/{appid}", "putAccount", o.Operator, a.putAccount, "Create or replace an account"),
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
		o.Get("/users/{user}/openid", "getOpenID", o.Operator, a.getOpenID, "The openid of a user under an account"),
		o.Delete("/users/{user}/scans", "eraseUser", o.Admin, a.eraseUser,
			"Make every scan of a user anonymous, and remove tickets, logins and what else stands by the user's openids; what the scans count stays").Patient(),

		o.Get("/components", "listComponents", o.Viewer, a.listComponents, "List third-party platforms by AppID"),
		o.Get("/components/{component}", "getComponent", o.Viewer, a.getComponent, "One third-party platform and who authorised it"),
		o.Put("/components/{component}", "putComponent", o.Operator, a.putComponent,
			"Create or change a third-party platform; its authorisations stay"),
		o.Get("/components/{component}/pushes", "listPushes", o.Viewer, a.listPushes,
			"What was sent to a platform's event URL, and answered, newest first; tickets and codes are masked"),
		o.Delete("/components/{component}/authorizations/{appid}", "withdrawAuthorization", o.Operator, a.withdrawAuthorization,
			"An account takes back what it granted a platform: its tokens end at once"),
		o.Get("/accounts/{appid}/authorizations", "listHolders", o.Viewer, a.listHolders, "Which platforms an account authorised"),
		o.Delete("/accounts/{appid}/authorizations/{component}", "withdrawFromAccount", o.Operator, a.withdrawAuthorization,
			"The same, by the account's side"),

		o.Get("/rules", "listRules", o.Viewer, a.listRules, "List rules of all owners, oldest first"),
		o.Get("/rules/history", "ruleHistory", o.Viewer, a.ruleHistory, "What happened to a prefix, newest first"),
		o.Get("/rules/occupiers", "ruleOccupiers", o.Viewer, a.ruleOccupiers, "Which rules forbid a prefix to others"),
		o.Post("/rules/changes/{seq}/undo", "undoRuleChange", o.Rules, a.undoRuleChange,
			"Restore what was before a change of a rule, where nothing came after it").
			More(
				"An undo is a change of its own, can be undone like any other, and spends no publish and gives none back. 409 names what came after the change."),
		o.Post("/rules/plan/replay", "replayPlan", o.Rules, a.replayPlan,
			"What would a planned change have done to the scans of the last days?").Patient().
			More(
				"Nothing is changed. Every link that was scanned is decided by the rules as they are now and by the rules as they would be."),
		o.Post("/prefixes/release", "releasePrefix", o.Operator, a.releasePrefix,
			"Take rules away from their owners, because the domain changed hands. Publishes that were spent stay spent; the old owners are told").Patient(),
		o.Get("/confirmations", "listConfirmations", o.Viewer, a.listConfirmations,
			"Checks of verification files, newest first: why a check failed"),
		o.Get("/rechecks", "listRechecks", o.Viewer, a.listRechecks,
			"The nightly look at verification files: what is in place and what is not; rules go on either way"),
		o.Post("/rechecks", "recheckNow", o.Rules, a.recheckNow, "Look at all verification files now, and wait for the first of them"),
		o.Get("/domains", "listDomains", o.Viewer, a.listDomains, "Hosts that are trusted or denied"),
		o.Put("/domains/{host}", "putDomain", o.Operator, a.putDomain, "Trust a host, or deny it and those below it"),
		o.Delete("/domains/{host}", "deleteDomain", o.Operator, a.deleteDomain, "Say nothing of a host any more"),

		o.Get("/batches", "listBatches", o.Viewer, a.listBatches, "Applications for codes, oldest first"),
		o.Get("/batches/{application_id}", "getBatch", o.Viewer, a.getBatch, "Show an application"),
		o.Get("/batches/{application_id}/events", "listCodeEvents", o.Viewer, a.listCodeEvents,
			"What happened to codes of a batch, oldest first; from after now is scheduled"),
		o.Post("/batches/{application_id}/states", "changeCodes", o.Marketer, a.changeCodes,
			"Freeze, unfreeze, void or redeem codes; void is for ever"),
		o.Post("/batches/{application_id}/activations", "activateCodes", o.Marketer, a.activateCodes,
			"Activate a range of codes, now or at a time"),
		o.Post("/batches/{application_id}/withdrawals", "withdrawCodes", o.Marketer, a.withdrawCodes,
			"Make codes not active any more, now or at a time"),
		o.Post("/batches/{application_id}/retarget", "retargetCodes", o.Marketer, a.retargetCodes,
			"Open another page for what is active in a range; what the codes count for stays"),
		o.Get("/batches/{application_id}/codes/{code_index}/scans", "getCodeScans", o.Marketer, a.getCodeScans,
			"What is known of the scans of a code"),
		o.Post("/codes/lookup", "lookupCode", o.Marketer, a.lookupCode,
			"Find a code by its text, its nine characters, or application and index, with its history"),

		o.Get("/scans", "listScans", o.Marketer, a.listScans, "Scans in the order in which they became known; each once"),
		o.Get("/scans/{scan_id}", "getScan", o.Marketer, a.getScan, "Show a scan"),
		o.Get("/scans/export", "exportScans", o.Marketer, a.exportScans,
			"Scans of a time as a file, in the order in which they became known").
			Answers("the scans", "text/csv", parquetType),
		o.Get("/scan-nodes", "listScanNodes", o.Operator, a.listScanNodes,
			"The nodes whose journals may hold scans that are not in the ledger; none with an embedded database"),
		o.Delete("/scan-nodes/{node}", "forgetScanNode", o.Admin, a.forgetScanNode,
			"Wait no more for the scans of a node that never comes back; what it did not bring is lost; the nodes that are left"),
		o.Get("/statistics", "askStatistics", o.Marketer, a.askStatistics,
			"How often was scanned, by time and by what the scans have in common"),
		o.Get("/statistics/misses", "listMisses", o.Marketer, a.listMisses, "What was scanned and found nothing, the most scanned first"),
		o.Post("/statistics/recount", "recountStatistics", o.Operator, a.recountStatistics,
			"Count the whole ledger again and say where that differs from what is counted").Patient().
			Alone("another recount is running: wait for its end"),
		o.Get("/alarms", "listAlarms", o.Marketer, a.listAlarms, "Codes that look as if they were copied, oldest alarm first"),
		o.Post("/alarms/{id}/acknowledge", "acknowledgeAlarm", o.Marketer, a.acknowledgeAlarm,
			"Note that somebody has seen an alarm; the first one stays"),
		o.Get("/history/resolve", "resolveThen", o.Viewer, a.resolveThen,
			"What a link or a code opened at a past moment, and who changed it since"),

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

		o.Get("/behaviours", "listBehaviours", o.Viewer, a.listBehaviours,
			"What this server does where the platform might differ, and how sure each line is"),
		o.Get("/calls/{rid}", "getCall", o.Operator, a.getCall,
			"Why a call was answered so: what was wrong, and the behaviours that decided, by its request id"),
		o.Get("/deviations", "listDeviations", o.Viewer, a.listDeviations,
			"What callers did that this server let pass and the platform may mind, each with what to change in the caller").
			More("`mark` is how sure it is that the platform minds; `first` and `last` are request ids. At most 10,000, by account, " +
				"endpoint and behaviour. The latest of other nodes are a second behind."),
		o.Delete("/deviations", "forgetDeviations", o.Operator, a.forgetDeviations,
			"Begin the list of deviations anew; those that are left"),
		o.Get("/settings", "getSettings", o.Viewer, a.getSettings, "The settings in force"),
		o.Put("/settings", "putSettings", o.Admin, a.putSettings, "Change settings: fields that are left out stay").Wants(settingsChange),
		o.Get("/scan-keys", "listScanKeys", o.Operator, a.listScanKeys, "Keys of apps that scan, without the keys themselves"),
		o.Post("/scan-keys", "createScanKey", o.Admin, a.createScanKey, "Make a key for an app; one of the same name is replaced"),
		o.Delete("/scan-keys/{name}", "deleteScanKey", o.Admin, a.deleteScanKey, "End a key at once; the keys that are left"),
		o.Get("/changes", "listChanges", o.Operator, a.listChanges,
			"The audit log: every change, by whom and through which call, oldest first"),
		o.Post("/audit/verify", "verifyAudit", o.Operator, a.verifyAudit,
			"Verify the whole audit log: its chain of hashes, and that rules, accounts and codes are what it says").Patient(),

		o.Post("/export", "exportEverything", o.Admin, a.exportEverything,
			"An archive of everything as it is now, its keys sealed by a passphrase").
			Answers("the archive, for qrjump import", "application/gzip").Alone("another export is running: wait for its end"),
		o.Get("/export/rules", "exportRules", o.Rules, a.exportRules,
			"All rules, a JSON object a line as in a seed, oldest first, as they are at one moment").
			Answers("the lines", ndjson).Alone("another export of rules is running: wait for its end"),
		o.Get("/export/accounts", "exportAccounts", o.Operator, a.exportAccounts,
			"All accounts without their secrets, a JSON object a line as in a seed, as they are at one moment").
			Answers("the lines", ndjson).Alone("another export of accounts is running: wait for its end"),
		o.Post("/import/rules", "importRules", o.Operator, a.importRules,
			"Load rules, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Alone("another import of rules is running: wait for its end"),
		o.Post("/import/accounts", "importAccounts", o.Operator, a.importAccounts,
			"Load accounts, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Alone("another import of accounts is running: wait for its end"),
	}
}
