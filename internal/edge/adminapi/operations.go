package adminapi

import (
	"slices"

	"github.com/qrjump/qrjump/client"
	o "github.com/qrjump/qrjump/internal/infra/adminroute"
)

// Operations returns all routes of the admin API: path, name, minimum role of the caller, function and description.
func (a *Admin) Operations() []o.Route {
	return slices.Concat(accountAPI{a}.accountOperations(), accountAPI{a}.platformOperations(), ruleAPI{a}.ruleOperations(),
		ruleAPI{a}.gs1Operations(), codeAPI{a}.codeOperations(), scanAPI{a}.scanOperations(), webhookAPI{a}.webhookOperations(),
		serverAPI{a}.serverOperations(), archiveAPI{a}.archiveOperations())
}

// accountOperations returns the routes for accounts and for the data of their users.
func (a accountAPI) accountOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListAccounts, o.Viewer, a.listAccounts, "List accounts by AppID").AnyAccount(),
		o.Serve(client.OpCompleteAccounts, o.Viewer, a.completeAccounts, "Get the names of accounts by AppID").AnyAccount(),
		o.Serve(client.OpSearch, o.Viewer, a.search, "Search accounts, rules, batches, codes, activities and calls by a text").
			AnyAccount().Description("Codes and serial numbers are found only for callers who may look codes up, calls only for callers " +
			"who may read the call log. Rules match if their link or path begins with the text; the newest 2,000 rules also match " +
			"if they contain it."),
		o.Serve(client.OpGetAccount, o.Viewer, a.getAccount, "Get an account"),
		o.Serve(client.OpListAbilities, o.Viewer, a.listAbilities,
			"List what an account can do, with the missing requirement of each ability that it lacks"),
		o.Serve(client.OpPutAccount, o.Operator, a.putAccount, "Create or replace an account"),
		o.Serve(client.OpDeleteAccount, o.Operator, a.deleteAccount,
			"Delete an account with its members, links, tokens and authorisations; 409 if something depends on it").
			Description("Delete the rules and GS1 links that open the account and its codes first. An account that applied for codes or " +
				"has permanent QR codes cannot be deleted, because printed codes must resolve. The audit log and statistics keep their " +
				"records of the account."),
		o.Serve(client.OpSetVersions, o.Operator, a.setVersions, "Set which versions of a Mini Program exist"),
		o.Serve(client.OpSetRulesEnabled, o.Operator, a.setRulesEnabled, "Enable or disable all rules of an account"),
		o.Serve(client.OpRevokeTokens, o.Operator, a.revokeTokens,
			"Revoke all access tokens of an account, including those of authorised platforms"),
		o.Serve(client.OpPutMember, o.Operator, a.putMember, "Grant a user a role in an account"),
		o.Serve(client.OpDeleteMember, o.Operator, a.deleteMember, "Remove a user's role in an account"),
		o.Serve(client.OpListLinks, o.Viewer, a.listLinks, "List the links of a service account in any state"),
		o.Serve(client.OpPutLink, o.Operator, a.putLink, "Link a service account to a Mini Program"),
		o.Serve(client.OpDeleteLink, o.Operator, a.deleteLink, "Delete a link"),
		o.Serve(client.OpConfirmLink, o.Operator, a.confirmLink, "Approve or reject a link, or its removal, as administrator of one side"),
		o.Serve(client.OpGetQuota, o.Viewer, a.getQuota, "Get the number of publishes left this month"),
		o.Serve(client.OpListNotifications, o.Viewer, a.listNotifications,
			"List notifications to an account about the operator's changes, newest first"),
		o.Serve(client.OpGetAppearance, o.Viewer, a.getAppearance, "Get an account's appearance on pages for buyers"),
		o.Serve(client.OpPutAppearance, o.Operator, a.putAppearance,
			"Set an account's appearance on pages for buyers; omitted fields are cleared, except the logo").
			Description("A logo is a PNG, JPEG or WebP of at most 512 KiB and 4,194,304 pixels in Base64; it is converted to a PNG of " +
				"at most 384 × 192 pixels."),
		o.Serve(client.OpGetOpenID, o.Operator, a.getOpenID, "Get a user's openid for an account").OfQuery("appid"),
		o.Serve(client.OpEraseUser, o.Admin, scanAPI(a).eraseUser,
			"Anonymise a user's scans and delete all other data stored under the user's openids, such as tickets and logins; "+
				"statistics stay").Patient(),
	}
}

// platformOperations returns the routes for third-party platforms.
func (a accountAPI) platformOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListComponents, o.Viewer, a.listComponents, "List third-party platforms by AppID"),
		o.Serve(client.OpGetComponent, o.Viewer, a.getComponent, "Get a third-party platform and the accounts that authorised it"),
		o.Serve(client.OpPutComponent, o.Operator, a.putComponent, "Create or update a third-party platform; its authorisations stay"),
		o.Serve(client.OpDeleteComponent, o.Operator, a.deleteComponent, "Delete a third-party platform, its tokens and authorisations"),
		o.Serve(client.OpListPushes, o.Viewer, a.listPushes,
			"List messages to a platform's event URL with the responses, newest first; tickets and codes are masked"),
		o.Serve(client.OpRevokeAuthorization, o.Operator, a.revokeAuthorization,
			"Revoke an account's authorisation of a platform and the platform's tokens for the account"),
		o.Serve(client.OpListAccountAuthorizations, o.Viewer, a.listAccountAuthorizations, "List the platforms that an account authorised"),
		o.Serve(client.OpLookupAuthorization, o.Operator, a.lookupAuthorization,
			"Look up what an authorisation link asks for, and the accounts for which the caller may grant it").AnyAccount(),
		o.Serve(client.OpGrantAuthorization, o.Operator, a.grantAuthorization,
			"Authorise a platform for an account, as the page behind an authorisation link does; each link works once").AnyAccount(),
		o.Serve(client.OpRevokeAccountAuthorization, o.Operator, a.revokeAccountAuthorization,
			"Revoke a platform's authorisation, addressed by account"),
	}
}

// ruleOperations returns the routes for rules and domains.
func (a ruleAPI) ruleOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListRules, o.Viewer, a.listRules, "List rules of all owners, oldest first").AnyAccount().
			Description("With `text` or `state`, one request examines at most 2,000 rules: a page may be empty although `next` names a " +
				"further one."),
		o.Serve(client.OpCompleteRules, o.Viewer, a.completeRules,
			"Get the owners and prefixes of rules by their ids, for names in statistics").AnyAccount().
			Description("Deleted rules are included while the audit log contains them."),
		o.Serve(client.OpAddRule, o.RulesEditor, a.addRule,
			"Add a rule for an account; the checks, including the verification file, are those of qrcodejumpadd"),
		o.Serve(client.OpEditRule, o.RulesEditor, a.editRule,
			"Update a rule of an account; omitted test links stay; a published rule keeps its page"),
		o.Serve(client.OpPublishRule, o.RulesEditor, a.publishRule,
			"Publish a rule of an account, which uses one publish of this month's quota"),
		o.Serve(client.OpDeleteRule, o.RulesEditor, a.deleteRule, "Delete a rule of an account and return it"),
		o.Serve(client.OpCheckRule, o.RulesEditor, a.checkRule,
			"Check whether a rule can be added: result, URL of the verification file and whether it is found; changes nothing"),
		o.Serve(client.OpGetRuleHistory, o.Viewer, a.getRuleHistory, "List the changes to a prefix, newest first").AnyAccount(),
		o.Serve(client.OpListRuleConflicts, o.Viewer, a.listRuleConflicts,
			"List the rules that prevent other accounts from adding a prefix").AnyAccount(),
		o.Serve(client.OpUndoRuleChange, o.RulesEditor, serverAPI(a).undoRuleChange,
			"Undo a change of a rule, if no later change follows it").
			Description("An undo is itself a change that can be undone. It neither uses nor refunds a publish. 409 names the later " +
				"change."),
		o.Serve(client.OpReplayPlan, o.RulesEditor, serverAPI(a).replayPlan,
			"Replay the scans of the last days against planned rules").Patient().AnyAccount().
			Description("Nothing is changed. Every scanned link is resolved by the current rules and by the planned rules."),
		o.Serve(client.OpForceDeleteRules, o.Operator, a.forceDeleteRules,
			"Delete other owners' rules below a prefix after its domain changed hands; used publishes are not refunded; the "+
				"owners are notified").Patient(),
		o.Serve(client.OpListVerifications, o.Viewer, a.listVerifications,
			"List checks of verification files with the reasons for failures, newest first").OfQuery("owner"),
		o.Serve(client.OpListReverifications, o.Viewer, a.listReverifications,
			"List results of the nightly reverification of verification files; a missing file does not affect a rule").OfQuery("owner"),
		o.Serve(client.OpReverifyNow, o.RulesEditor, a.reverifyNow,
			"Start a reverification of all verification files and wait for the first result"),
		o.Serve(client.OpListDomains, o.Viewer, a.listDomains, "List trusted and denied hosts"),
		o.Serve(client.OpPutDomain, o.Operator, a.putDomain, "Trust a host, or deny it and its subdomains"),
		o.Serve(client.OpDeleteDomain, o.Operator, a.deleteDomain, "Remove a host from the trusted and denied hosts"),
	}
}

// gs1Operations returns the routes for links of GS1 keys.
func (a ruleAPI) gs1Operations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListGS1Links, o.Viewer, a.listGS1Links, "List links of GS1 keys, ordered by key").AnyAccount(),
		o.Serve(client.OpAddGS1Links, o.RulesEditor, a.addGS1Links, "Create the links of a GS1 key; 409 if it has links").AnyAccount(),
		o.Serve(client.OpGetGS1Links, o.Viewer, a.getGS1Links, "Get the links of a GS1 key").AnyAccount(),
		o.Serve(client.OpPutGS1Links, o.RulesEditor, a.putGS1Links,
			"Replace the links of a GS1 key, which also apply to keys below it that have none; omitted fields are cleared").
			AnyAccount().Description("409: the primary key, or its company prefix (setting gs1_prefixes), belongs to another account, " +
			"which the response names."),
		o.Serve(client.OpDeleteGS1Links, o.RulesEditor, a.deleteGS1Links, "Delete the links of a GS1 key and return them").AnyAccount(),
		o.Serve(client.OpUndoGS1Change, o.RulesEditor, a.undoGS1Change,
			"Undo a change of a GS1 key, if no later change follows it").AnyAccount(),
		o.Serve(client.OpTransferGS1, o.Operator, a.transferGS1,
			"Transfer a GS1 key with the keys below it, or a GS1 Company Prefix with its keys, to another account"),
		o.ServeAs(client.OpExportGS1Links, o.Viewer, a.exportGS1Links,
			"Export the links of all GS1 keys as JSON Lines in the format of the seed file").AnyAccount().Answers("the lines", ndjson),
		o.Serve(client.OpImportGS1Links, o.RulesEditor, a.importGS1Links,
			"Import links of GS1 keys from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and "+
				"the response names it").AnyAccount().Patient().Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another " +
			"import of GS1 links is running; try again when it has ended"),
	}
}

// codeOperations returns the routes for batches, codes and printers' packages.
func (a codeAPI) codeOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListOrders, o.Viewer, a.listOrders, "List orders of codes with their progress, newest first").AnyAccount(),
		o.Serve(client.OpCreateOrder, o.Marketer, a.createOrder,
			"Order codes for an account; with the setting order_approval_required, a second person must approve the order first"),
		o.Serve(client.OpDecideOrder, o.Marketer, a.decideOrder, "Approve or reject an order of codes"),
		o.Serve(client.OpListBatches, o.Viewer, a.listBatches, "List applications for codes, oldest first").AnyAccount(),
		o.Serve(client.OpGetBatch, o.Viewer, a.getBatch, "Get an application for codes").Concerns(a.ofBatch),
		o.Serve(client.OpListCodeEvents, o.Viewer, a.listCodeEvents,
			"List changes of a batch's codes, oldest first; changes with a future `from` are scheduled").Concerns(a.ofBatch),
		o.Serve(client.OpListCodeRuns, o.Viewer, a.listCodeRuns,
			"List index ranges of an application with their current state: active, frozen, void, redeemed or free").Concerns(a.ofBatch),
		o.ServeAs(client.OpListCodes, o.Operator, a.listCodes,
			"Download at most 50,000 codes of a range, one line each with index, code and code text").Concerns(a.ofBatch).
			Answers("the codes", "text/csv"),
		o.Serve(client.OpChangeCodes, o.Marketer, a.changeCodes,
			"Freeze, unfreeze, void or redeem codes; void is permanent").Concerns(a.ofBatch),
		o.Serve(client.OpActivateCodes, o.Marketer, a.activateCodes, "Activate a code range now or at a given time").Concerns(a.ofBatch),
		o.Serve(client.OpDeactivateCodes, o.Marketer, a.deactivateCodes, "Deactivate codes now or at a given time").Concerns(a.ofBatch),
		o.Serve(client.OpRetargetCodes, o.Marketer, a.retargetCodes,
			"Change the page that the active codes of a range open; statistics stay with the original activity").Concerns(a.ofBatch),
		o.Serve(client.OpGetCodeScans, o.Viewer, a.getCodeScans,
			"Get the scans of a code with their counts, first scan and copy indicators").Concerns(a.ofBatch),
		o.Serve(client.OpGetBatchAlarm, o.Viewer, scanAPI(a).getBatchAlarm,
			"Get the score from which on an application's codes raise an alarm as possibly copied").Concerns(a.ofBatch),
		o.Serve(client.OpPutBatchAlarm, o.Operator, scanAPI(a).putBatchAlarm,
			"Set the score from which on an application's codes raise an alarm, or turn alarms off; by default the setting "+
				"alarm_threshold applies; open alarms stay").Concerns(a.ofBatch),
		o.Serve(client.OpReplayAlarms, o.Viewer, scanAPI(a).replayAlarms,
			"Replay the last 90 days with another alarm threshold").Concerns(a.ofBatch).Patient().Exclusive("another replay is running; " +
			"try again when it has ended").
			Description("Nothing is changed. The scans of codes that reach the threshold are read from the scan log again; dismissals do " +
				"not reduce a score here."),
		o.Serve(client.OpBindSerials, o.Marketer, a.bindSerials,
			"Assign the brand's serial numbers to codes, either to all given codes or to none").Concerns(a.ofBatch).
			Description("Repeating a request changes nothing. 409: a code has another serial number and `replace` is not set, or the " +
				"serial number belongs to another code."),
		o.Serve(client.OpCreateImport, o.Operator, a.createImport,
			"Create a batch for codes generated elsewhere, which importCodes then imports; repeating a request returns "+
				"the existing batch").Description("409: the account used this `isv_application_id` for another application, or " +
			"`application_id` belongs to another account."),
		o.Serve(client.OpImportCodes, o.Operator, a.importCodes,
			"Import codes of another system, all lines or none: dot matrix, original code, index and code text, or only texts").
			Concerns(a.ofBatch).Patient().Takes(fourColumns, "lines of the wire's four columns ordered by index, or one text per line if "+
			"the text of the application has {token:N}; at most 50,000 lines").
			Description("Lines that are already imported change nothing. 422 names a line that is wrong, that was imported with another " +
				"text, or whose text belongs to another code. No code of the batch can be active before all are imported."),
		o.Serve(client.OpUndoImport, o.Operator, a.undoImport,
			"Undo an import, some thousand codes per request; repeat while `more` is true").Concerns(a.ofBatch).
			Description("409 if a code of the application was activated, frozen, redeemed, voided, scanned or put into a printer's " +
				"package. After the last code the application is deleted and its ids can be used again."),
		o.Serve(client.OpCreatePackage, o.Marketer, a.createPackage,
			"Create a printer's package of codes; downloadPackage then returns the file").Concerns(a.ofBatch).
			Description("409: another printer has codes of the range, codes are in `max_packages_per_code` packages and no reason is " +
				"given, or some are frozen, void or spoiled."),
		o.Serve(client.OpListPackages, o.Viewer, a.listPackages, "List printers' packages, oldest first").OfQuery("account"),
		o.Serve(client.OpGetPackage, o.Viewer, a.getPackage, "Get a printer's package").Concerns(a.ofPackage),
		o.ServeAs(client.OpDownloadPackage, o.Marketer, a.downloadPackage,
			"Download the encrypted and signed file of a printer's package; can be repeated after an interrupted download").
			Concerns(a.ofPackage).Answers("an age-encrypted tar: the manifest, its signature, the parts", ageType),
		o.Serve(client.OpRecallPackage, o.Marketer, a.recallPackage,
			"Recall a package: freeze its codes and refuse further downloads").Concerns(a.ofPackage),
		o.Serve(client.OpMarkCodesSpoiled, o.Marketer, a.markCodesSpoiled,
			"Record that a printer destroyed codes of a package, which voids them permanently and removes them from packages").
			Concerns(a.ofPackage),
		o.Serve(client.OpGetPackageSigner, o.Viewer, a.getPackageSigner,
			"Get the public key with which printers verify packages").AnyAccount(),
		o.Serve(client.OpLookupCode, o.Viewer, a.lookupCode,
			"Find a code, with its history, by its text, its nine characters, or application and index").AnyAccount(),
	}
}

// scanOperations returns the routes for scans and their statistics.
func (a scanAPI) scanOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListScans, o.Viewer, a.listScans, "List scans in the order in which the server recorded them, each once").
			Description("With `from`, `to`, `user`, `rule` or `application_id`, one request examines at most 20,000 scans: a page may " +
				"be empty although `more` is true; continue after `next`.").AnyAccount(),
		o.Serve(client.OpGetScan, o.Viewer, a.getScan, "Get a scan").Concerns(a.ofScan),
		o.ServeAs(client.OpExportScans, o.Viewer, a.exportScans,
			"Export all or the matching scans as a file, in the order in which the server recorded them").
			Answers("the scans", "text/csv", parquetType).AnyAccount(),
		o.Serve(client.OpListScanNodes, o.Operator, a.listScanNodes,
			"List the nodes whose journals may contain scans that are not in the scan log; always empty with an embedded database"),
		o.Serve(client.OpDeleteScanNode, o.Admin, a.deleteScanNode,
			"Stop waiting for the scans of a lost node, whose undelivered scans are lost; returns the remaining nodes"),
		o.Serve(client.OpVerifyLake, o.Operator, a.verifyLake,
			"Compare the data lake with the scan log for each day; 404 if the node runs without --lake").Patient().Exclusive("another " +
			"comparison is running; try again when it has ended"),
		o.ServeAs(client.OpGetStatistics, o.Viewer, a.getStatistics,
			"Count scans by time and by dimensions such as rule or batch").AnyAccount(),
		o.Serve(client.OpListUnmatched, o.Viewer, a.listUnmatched,
			"List scanned texts that resolved to nothing, most scans first").AnyAccount(),
		o.ServeAs(client.OpExportStatistics, o.Viewer, a.exportStatistics,
			"Export all rows of getStatistics as a file").Answers("the rows", "text/csv", parquetType).AnyAccount(),
		o.ServeAs(client.OpExportUnmatched, o.Viewer, a.exportUnmatched,
			"Export scanned texts that resolved to nothing as a file, most scans first").
			Answers("the unmatched locations", "text/csv", parquetType).AnyAccount(),
		o.Serve(client.OpListSharedCharts, o.Marketer, a.listSharedCharts,
			"List shared charts, newest first: the caller's own, or all for an operator of all accounts").AnyAccount(),
		o.Serve(client.OpShareChart, o.Marketer, a.shareChart,
			"Create a link to a chart that can be read without signing in until it expires").AnyAccount().
			Description("The chart shows only data that its creator may see at the time of reading, and is deleted with its creator."),
		o.Serve(client.OpRevokeSharedChart, o.Marketer, a.revokeSharedChart, "Revoke the link to a chart and return it").AnyAccount(),
		o.Serve(client.OpRecountStatistics, o.Operator, a.recountStatistics,
			"Recount the whole scan log and report differences from the statistics").Patient().Exclusive("another recount is running; " +
			"try again when it has ended"),
		o.Serve(client.OpListAlarms, o.Viewer, a.listAlarms,
			"List alarms about codes that appear to be copied or were scanned in an unusual state, and bursts of scans, oldest first").
			AnyAccount(),
		o.ServeAs(client.OpExportAlarms, o.Viewer, a.exportAlarms,
			"Export alarms as a file, oldest first, with reasons in the requested language").
			Answers("the alarms", "text/csv", parquetType).AnyAccount(),
		o.Serve(client.OpAcknowledgeAlarm, o.Marketer, a.acknowledgeAlarm,
			"Acknowledge an alarm, confirm it as justified, or set its case and note; an earlier acknowledgement or "+
				"confirmation stays unchanged").Concerns(a.ofAlarm),
		o.Serve(client.OpDismissAlarm, o.Marketer, a.dismissAlarm,
			"Dismiss an alarm because the code is not copied: it opens its page again, and only later scans can raise another "+
				"alarm; a second dismissal changes nothing").Concerns(a.ofAlarm),
		o.Serve(client.OpListCases, o.Viewer, a.listCases, "List cases, which group alarms, newest first").AnyAccount(),
		o.Serve(client.OpCreateCase, o.Marketer, a.createCase, "Create a case, and acknowledge the alarms that it contains").AnyAccount(),
		o.Serve(client.OpGetCase, o.Viewer, a.getCase, "Get a case with its alarms").Concerns(a.ofCase),
		o.Serve(client.OpPutCase, o.Marketer, a.putCase,
			"Update a case: title, state, assignee, note, and the alarms that it contains").Concerns(a.ofCase),
		o.ServeAs(client.OpGetCaseSheet, o.Viewer, a.getCaseSheet,
			"Get the report of a case for printing: its alarms with their reasons, places, times and scans").
			Answers("the report", "application/pdf", "text/html").Concerns(a.ofCase),
		o.Serve(client.OpResolveAsOf, o.Viewer, serverAPI(a).resolveAsOf,
			"Resolve a link or a code as of a past time, with the changes since").AnyAccount(),
	}
}

// webhookOperations returns the routes for webhooks that receive scans and alarms.
func (a webhookAPI) webhookOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListWebhooks, o.Viewer, a.listWebhooks, "List webhooks without their secrets"),
		o.Serve(client.OpCreateWebhook, o.Operator, a.createWebhook,
			"Create a webhook that receives future scans of chosen codes and rules, and alarms"),
		o.Serve(client.OpPutWebhook, o.Operator, a.putWebhook, "Update the events, URL or state of a webhook; pending deliveries stay"),
		o.Serve(client.OpDeleteWebhook, o.Operator, a.deleteWebhook,
			"Delete a webhook and its pending deliveries; returns the remaining webhooks"),
		o.Serve(client.OpTestWebhook, o.Operator, a.testWebhook, "Send a test event to a webhook"),
		o.Serve(client.OpListDeliveries, o.Operator, a.listDeliveries, "List deliveries to webhooks with their results, newest first"),
		o.Serve(client.OpReplayDelivery, o.Operator, a.replayDelivery,
			"Send a delivery again with the same event id, whatever its result was"),
	}
}

// serverOperations returns the routes for API calls, settings, people and the audit log.
func (a serverAPI) serverOperations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListBehaviours, o.Viewer, a.listBehaviours,
			"List behaviours in which the platform may differ from this server, with the level of evidence").AnyAccount(),
		o.Serve(client.OpListCalls, o.Operator, a.listCalls,
			"List wire calls of the last seven days with request and response, newest first; secrets are masked").
			Description("One request examines a few thousand calls: a page may be empty although `next` names older calls; pass it as " +
				"`before`. `examined` is the number of calls examined, from `since` to `until`. Calls without a token or secret are not " +
				"recorded. Calls of other nodes appear about a second late.").OfQuery("account"),
		o.Serve(client.OpListCallErrors, o.Operator, a.listCallErrors,
			"Count failed wire calls by endpoint and error number, most frequent first").
			Description("Covers the calls that one request examines, from `since` to `until`; pass `next` as `before` for older ones.").
			OfQuery("account"),
		o.Serve(client.OpGetCall, o.Operator, a.getCall,
			"Explain the response to a call by its request ID: the error, and the behaviours that determined it").Concerns(a.ofCall),
		o.Serve(client.OpListDeviations, o.Viewer, a.listDeviations,
			"List deviations: calls that this server accepted and the platform may reject, with the necessary change in the caller").
			Description("`evidence_level` rates the evidence that the platform refuses it; `first_rid` and `last_rid` are request ids. " +
				"At most 10,000, ordered by account, endpoint and behaviour. Deviations on other nodes appear about a second late.").
			OfQuery("account"),
		o.Serve(client.OpGetDeviationCoverage, o.Viewer, a.getDeviationCoverage,
			"List the conditions that every client meets on the platform, whether each occurred here, and a command that causes it").
			Description("Conditions that cannot affect any endpoint called so far are left out. One request examines as many calls as " +
				"one of `/calls`.").OfQuery("account"),
		o.Serve(client.OpResetDeviations, o.Operator, a.resetDeviations, "Clear the list of deviations; returns the remaining ones"),
		o.ServeAs(client.OpGetSettings, o.Viewer, a.getSettings, "Get the settings in effect").AnyAccount(),
		o.ServeAs(client.OpPutSettings, o.Admin, a.putSettings, "Update settings; omitted fields stay").Wants(settingsChange),
		o.Serve(client.OpDescribeSettings, o.Viewer, a.describeSettings,
			"List every setting with its value, its default on this server and its meaning"),
		o.ServeAs(client.OpResetSetting, o.Admin, a.resetSetting, "Reset a setting to its default; returns the settings in effect"),
		o.Serve(client.OpListScanKeys, o.Operator, a.listScanKeys, "List keys of scanning apps without the secrets"),
		o.Serve(client.OpCreateScanKey, o.Admin, a.createScanKey, "Create a key for a scanning app; replaces one of the same name"),
		o.Serve(client.OpDeleteScanKey, o.Admin, a.deleteScanKey, "Delete a key; returns the remaining keys"),
		o.Serve(client.OpListPeople, o.Admin, a.listPeople, "List people who may sign in, sorted by name, without passwords"),
		o.Serve(client.OpCreatePerson, o.Admin, a.createPerson, "Add a person who may sign in, with a role for all or for some accounts"),
		o.Serve(client.OpUpdatePerson, o.Admin, a.updatePerson,
			"Change a person's role, accounts, password or second factor, which ends all sessions of the person"),
		o.Serve(client.OpDeletePerson, o.Admin, a.deletePerson, "Delete a person with all sessions; returns the remaining people"),
		o.Serve(client.OpDeleteSessions, o.Admin, a.deleteSessions, "End all sessions and unused login links of a person"),
		o.Serve(client.OpCreateLoginLink, o.Admin, a.createLoginLink,
			"Create a link that signs in to the console once, within ten minutes, without a password or second factor"),
		o.Serve(client.OpListAdminKeys, o.Admin, a.listAdminKeys, "List keys for this API without the secrets"),
		o.Serve(client.OpCreateAdminKey, o.Admin, a.createAdminKey,
			"Create a key for this API, with a role for all or for some accounts and a name that no other unexpired key has"),
		o.Serve(client.OpDeleteAdminKey, o.Admin, a.deleteAdminKey, "Delete a key; returns the remaining keys"),
		o.Serve(client.OpListFailedAuthentications, o.Operator, a.listFailedAuthentications,
			"List failed authentications on this node in the last day by client address, most frequent first"),
		o.ServeAs(client.OpListChanges, o.Operator, a.listChanges, "List audit log entries, oldest first, with actor and request ID"),
		o.ServeAs(client.OpVerifyAudit, o.Operator, a.verifyAudit,
			"Verify the audit log's hash chain, and that rules, accounts and codes agree with it").Patient(),
	}
}

// archiveOperations returns the routes that export and import all data as files.
func (a archiveAPI) archiveOperations() []o.Route {
	return []o.Route{
		o.ServeAs(client.OpExportAll, o.Admin, a.exportAll,
			"Export all data, or the data of some accounts, as an archive whose keys are encrypted with a passphrase").
			Answers("the archive, for qrjump import", "application/gzip").Exclusive("another export is running; try again when it has " +
			"ended"),
		o.Serve(client.OpRecordDrill, o.Operator, a.recordDrill,
			"Record the result of a restore drill in the audit log, for the console and qrjump doctor"),
		o.ServeAs(client.OpExportRules, o.RulesEditor, a.exportRules,
			"Export a consistent snapshot of all rules as JSON Lines in the format of the seed file, oldest first").
			Answers("the lines", ndjson).Exclusive("another export of rules is running; try again when it has ended"),
		o.ServeAs(client.OpExportAccounts, o.Operator, a.exportAccounts,
			"Export a consistent snapshot of all accounts without secrets as JSON Lines in the format of the seed file").
			Answers("the lines", ndjson).Exclusive("another export of accounts is running; try again when it has ended"),
		o.Serve(client.OpImportRules, o.Operator, a.importRules,
			"Import rules from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and the "+
				"response names it").Patient().
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of rules is running; try again when it has ended"),
		o.Serve(client.OpImportAccounts, o.Operator, a.importAccounts,
			"Import accounts from JSON Lines in the format of the seed file; if a line is wrong, nothing is imported and the "+
				"response names it").Patient().
			Description("To move accounts from another cell with all their data, send an archive of `exportAll` with `accounts`: "+
				"Content-Type application/gzip, and its passphrase in Base64 in the header "+archivePassphrase+".").
			Takes(ndjson, linesTaken).Answers(linesStored).Exclusive("another import of accounts is running; try again when it has ended"),
	}
}
