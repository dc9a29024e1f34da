package client

// The operations of the admin API, by resource.
var (
	// Accounts and their members, links and users.
	OpListAccounts      = Op[AccountQuery, AccountList]{"GET", "/accounts", "listAccounts"}
	OpCompleteAccounts  = Op[AccountNamesQuery, AccountNames]{"GET", "/account-names", "completeAccounts"}
	OpGetAccount        = Op[Empty, Account]{"GET", "/accounts/{appid}", "getAccount"}
	OpPutAccount        = Op[AccountPut, Account]{"PUT", "/accounts/{appid}", "putAccount"}
	OpDeleteAccount     = Op[DeletionQuery, Deletion]{"DELETE", "/accounts/{appid}", "deleteAccount"}
	OpListAbilities     = Op[Empty, AbilityList]{"GET", "/accounts/{appid}/abilities", "listAbilities"}
	OpSetVersions       = Op[VersionsPut, Account]{"PUT", "/accounts/{appid}/versions", "setVersions"}
	OpSetRulesEnabled   = Op[RulesEnabledPut, Account]{"PUT", "/accounts/{appid}/jump", "setRulesEnabled"}
	OpRevokeTokens      = Op[Empty, Account]{"DELETE", "/accounts/{appid}/tokens", "revokeTokens"}
	OpPutMember         = Op[MemberPut, Account]{"PUT", "/accounts/{appid}/members/{user}", "putMember"}
	OpDeleteMember      = Op[Empty, Account]{"DELETE", "/accounts/{appid}/members/{user}", "deleteMember"}
	OpListLinks         = Op[Empty, AccountLinkList]{"GET", "/accounts/{appid}/links", "listLinks"}
	OpPutLink           = Op[Empty, Account]{"PUT", "/accounts/{appid}/links/{mini_program}", "putLink"}
	OpDeleteLink        = Op[Empty, Account]{"DELETE", "/accounts/{appid}/links/{mini_program}", "deleteLink"}
	OpConfirmLink       = Op[LinkDecision, AccountLinkList]{"POST", "/accounts/{appid}/links/{mini_program}/confirm", "confirmLink"}
	OpGetQuota          = Op[Empty, Quota]{"GET", "/accounts/{appid}/quota", "getQuota"}
	OpListNotifications = Op[NotificationQuery, NotificationList]{"GET", "/accounts/{appid}/notifications", "listNotifications"}
	OpGetAppearance     = Op[Empty, Appearance]{"GET", "/accounts/{appid}/appearance", "getAppearance"}
	OpPutAppearance     = Op[AppearancePut, Appearance]{"PUT", "/accounts/{appid}/appearance", "putAppearance"}
	OpGetOpenID         = Op[OpenIDQuery, OpenID]{"GET", "/users/{user}/openid", "getOpenID"}
	OpEraseUser         = Op[ErasureQuery, ErasureResult]{"DELETE", "/users/{user}/scans", "eraseUser"}

	// Third-party platforms and their authorisations.
	OpListComponents             = Op[ComponentQuery, ComponentList]{"GET", "/components", "listComponents"}
	OpGetComponent               = Op[Empty, Component]{"GET", "/components/{component}", "getComponent"}
	OpPutComponent               = Op[ComponentPut, Component]{"PUT", "/components/{component}", "putComponent"}
	OpDeleteComponent            = Op[DeletionQuery, Deletion]{"DELETE", "/components/{component}", "deleteComponent"}
	OpListPushes                 = Op[PushQuery, PushList]{"GET", "/components/{component}/pushes", "listPushes"}
	OpLookupAuthorization        = Op[ConsentQuery, AuthorizationRequest]{"POST", "/authorizations/lookup", "lookupAuthorization"}
	OpGrantAuthorization         = Op[ConsentGrant, ConsentResult]{"POST", "/authorizations", "grantAuthorization"}
	OpRevokeAuthorization        = Op[Empty, Revoked]{"DELETE", "/components/{component}/authorizations/{appid}", "revokeAuthorization"}
	OpListAccountAuthorizations  = Op[Empty, ComponentGrantList]{"GET", "/accounts/{appid}/authorizations", "listAccountAuthorizations"}
	OpRevokeAccountAuthorization = Op[Empty, Revoked]{
		"DELETE", "/accounts/{appid}/authorizations/{component}", "revokeAccountAuthorization"}

	// Rules, verification files and domains.
	OpListRules           = Op[StoredRuleQuery, StoredRuleList]{"GET", "/rules", "listRules"}
	OpCompleteRules       = Op[RuleNamesQuery, RuleNames]{"GET", "/rules/names", "completeRules"}
	OpAddRule             = Op[RuleInput, StoredRule]{"POST", "/accounts/{appid}/rules", "addRule"}
	OpEditRule            = Op[RuleInput, StoredRule]{"PUT", "/accounts/{appid}/rules", "editRule"}
	OpPublishRule         = Op[PublishRuleRequest, StoredRule]{"POST", "/accounts/{appid}/rules/publish", "publishRule"}
	OpDeleteRule          = Op[PrefixQuery, StoredRule]{"DELETE", "/accounts/{appid}/rules", "deleteRule"}
	OpCheckRule           = Op[CheckRuleRequest, RuleCheck]{"POST", "/accounts/{appid}/rules/check", "checkRule"}
	OpGetRuleHistory      = Op[PrefixQuery, RuleChanges]{"GET", "/rules/history", "getRuleHistory"}
	OpListRuleConflicts   = Op[PrefixQuery, StoredRuleList]{"GET", "/rules/conflicts", "listRuleConflicts"}
	OpUndoRuleChange      = Op[Empty, RuleChange]{"POST", "/rules/changes/{seq}/undo", "undoRuleChange"}
	OpReplayPlan          = Op[ReplayPlanRequest, ReplayResult]{"POST", "/rules/plan/replay", "replayPlan"}
	OpForceDeleteRules    = Op[ForceDeleteRequest, ForceDeleteResult]{"POST", "/rules/force-delete", "forceDeleteRules"}
	OpListVerifications   = Op[VerificationQuery, DomainVerificationList]{"GET", "/verifications", "listVerifications"}
	OpListReverifications = Op[ReverificationQuery, ReverificationList]{"GET", "/reverifications", "listReverifications"}
	OpReverifyNow         = Op[Empty, ReverificationRun]{"POST", "/reverifications", "reverifyNow"}
	OpListDomains         = Op[DomainQuery, DomainList]{"GET", "/domains", "listDomains"}
	OpPutDomain           = Op[DomainPut, DomainList]{"PUT", "/domains/{host}", "putDomain"}
	OpDeleteDomain        = Op[Empty, DomainList]{"DELETE", "/domains/{host}", "deleteDomain"}

	// Links of GS1 keys.
	OpListGS1Links   = Op[GS1Query, GS1List]{"GET", "/gs1/links", "listGS1Links"}
	OpAddGS1Links    = Op[NewGS1Entry, GS1Entry]{"POST", "/gs1/links", "addGS1Links"}
	OpGetGS1Links    = Op[Empty, GS1Entry]{"GET", "/gs1/links/{key...}", "getGS1Links"}
	OpPutGS1Links    = Op[GS1Put, GS1Entry]{"PUT", "/gs1/links/{key...}", "putGS1Links"}
	OpDeleteGS1Links = Op[Empty, GS1Entry]{"DELETE", "/gs1/links/{key...}", "deleteGS1Links"}
	OpUndoGS1Change  = Op[Empty, GS1Entry]{"POST", "/gs1/changes/{seq}/undo", "undoGS1Change"}
	OpTransferGS1    = Op[GS1Transfer, GS1TransferResult]{"POST", "/gs1/transfer", "transferGS1"}
	OpExportGS1Links = Op[Empty, File]{"GET", "/export/gs1", "exportGS1Links"}
	OpImportGS1Links = Op[ImportQuery, Imported]{"POST", "/import/gs1", "importGS1Links"}

	// Orders, batches and codes.
	OpListOrders      = Op[OrderQuery, OrderList]{"GET", "/orders", "listOrders"}
	OpCreateOrder     = Op[OrderPut, Order]{"POST", "/accounts/{appid}/orders", "createOrder"}
	OpDecideOrder     = Op[OrderDecision, Order]{"POST", "/accounts/{appid}/orders/decisions", "decideOrder"}
	OpListBatches     = Op[BatchQuery, BatchList]{"GET", "/batches", "listBatches"}
	OpGetBatch        = Op[Empty, Batch]{"GET", "/batches/{application_id}", "getBatch"}
	OpListCodeEvents  = Op[CodeEventQuery, CodeEventList]{"GET", "/batches/{application_id}/events", "listCodeEvents"}
	OpListCodeRuns    = Op[CodeRunQuery, CodeRuns]{"GET", "/batches/{application_id}/runs", "listCodeRuns"}
	OpListCodes       = Op[CodeQuery, File]{"GET", "/batches/{application_id}/codes", "listCodes"}
	OpChangeCodes     = Op[CodeStateChange, CodesChanged]{"POST", "/batches/{application_id}/states", "changeCodes"}
	OpActivateCodes   = Op[Activation, CodesChanged]{"POST", "/batches/{application_id}/activations", "activateCodes"}
	OpDeactivateCodes = Op[Deactivation, CodesChanged]{"POST", "/batches/{application_id}/deactivations", "deactivateCodes"}
	OpRetargetCodes   = Op[RetargetRequest, CodesRetargeted]{"POST", "/batches/{application_id}/retarget", "retargetCodes"}
	OpGetCodeScans    = Op[Empty, CodeScans]{"GET", "/batches/{application_id}/codes/{code_index}/scans", "getCodeScans"}
	OpBindSerials     = Op[SerialsPut, CodesChanged]{"PUT", "/batches/{application_id}/serials", "bindSerials"}
	OpCreateImport    = Op[NewImport, Batch]{"POST", "/accounts/{appid}/imported-batches", "createImport"}
	OpImportCodes     = Op[CodeImportQuery, CodesImported]{"PUT", "/batches/{application_id}/imported-codes", "importCodes"}
	OpUndoImport      = Op[ImportToUndo, ImportUndone]{"POST", "/batches/{application_id}/undo-import", "undoImport"}
	OpLookupCode      = Op[CodeLookup, StoredCode]{"POST", "/codes/lookup", "lookupCode"}

	// Packages of codes for printers.
	OpCreatePackage    = Op[PackageRequest, Package]{"POST", "/batches/{application_id}/packages", "createPackage"}
	OpListPackages     = Op[PackageQuery, PackageList]{"GET", "/packages", "listPackages"}
	OpGetPackage       = Op[Empty, Package]{"GET", "/packages/{package}", "getPackage"}
	OpDownloadPackage  = Op[PackagePassphrase, File]{"POST", "/packages/{package}/file", "downloadPackage"}
	OpRecallPackage    = Op[PackageNote, Package]{"POST", "/packages/{package}/recall", "recallPackage"}
	OpMarkCodesSpoiled = Op[SpoiledCodes, Package]{"POST", "/packages/{package}/spoiled", "markCodesSpoiled"}
	OpGetPackageSigner = Op[Empty, PackageSigner]{"GET", "/package-signer", "getPackageSigner"}

	// Scans and statistics. An export also takes the query of its rows.
	OpListScans         = Op[ScanQuery, ScanPage]{"GET", "/scans", "listScans"}
	OpGetScan           = Op[Empty, RecordedScan]{"GET", "/scans/{scan_id}", "getScan"}
	OpExportScans       = Op[TableFormat, File]{"GET", "/scans/export", "exportScans"}
	OpResolveAsOf       = Op[ResolveAsOfQuery, StateAsOf]{"GET", "/history/resolve", "resolveAsOf"}
	OpListScanNodes     = Op[Empty, ScanNodeList]{"GET", "/scan-nodes", "listScanNodes"}
	OpDeleteScanNode    = Op[Empty, ScanNodeList]{"DELETE", "/scan-nodes/{node}", "deleteScanNode"}
	OpVerifyLake        = Op[LakeQuery, LakeVerification]{"GET", "/lake/verification", "verifyLake"}
	OpGetStatistics     = Op[StatisticsQuery, Statistics]{"GET", "/statistics", "getStatistics"}
	OpExportStatistics  = Op[TableFormat, File]{"GET", "/statistics/export", "exportStatistics"}
	OpListUnmatched     = Op[UnmatchedQuery, UnmatchedList]{"GET", "/statistics/unmatched", "listUnmatched"}
	OpExportUnmatched   = Op[TableFormat, File]{"GET", "/statistics/unmatched/export", "exportUnmatched"}
	OpRecountStatistics = Op[Empty, Recount]{"POST", "/statistics/recount", "recountStatistics"}
	OpListSharedCharts  = Op[Empty, SharedCharts]{"GET", "/statistics/shared", "listSharedCharts"}
	OpShareChart        = Op[NewSharedChart, SharedChart]{"POST", "/statistics/shared", "shareChart"}
	OpRevokeSharedChart = Op[Empty, SharedChart]{"DELETE", "/statistics/shared/{id}", "revokeSharedChart"}

	// Alarms and cases.
	OpGetBatchAlarm    = Op[Empty, BatchAlarm]{"GET", "/batches/{application_id}/alarm", "getBatchAlarm"}
	OpPutBatchAlarm    = Op[BatchAlarmPut, BatchAlarm]{"PUT", "/batches/{application_id}/alarm", "putBatchAlarm"}
	OpReplayAlarms     = Op[AlarmReplayQuery, AlarmReplay]{"GET", "/batches/{application_id}/alarm/replay", "replayAlarms"}
	OpListAlarms       = Op[AlarmQuery, AlarmList]{"GET", "/alarms", "listAlarms"}
	OpExportAlarms     = Op[TableFormat, File]{"GET", "/alarms/export", "exportAlarms"}
	OpAcknowledgeAlarm = Op[Acknowledgement, Alarm]{"POST", "/alarms/{id}/acknowledge", "acknowledgeAlarm"}
	OpDismissAlarm     = Op[DismissAlarmRequest, Alarm]{"POST", "/alarms/{id}/dismiss", "dismissAlarm"}
	OpListCases        = Op[CaseQuery, CaseList]{"GET", "/cases", "listCases"}
	OpCreateCase       = Op[NewCase, Case]{"POST", "/cases", "createCase"}
	OpGetCase          = Op[Empty, Case]{"GET", "/cases/{id}", "getCase"}
	OpPutCase          = Op[CasePut, Case]{"PUT", "/cases/{id}", "putCase"}
	OpGetCaseSheet     = Op[CaseSheetQuery, File]{"GET", "/cases/{id}/sheet", "getCaseSheet"}

	// Webhooks and their deliveries.
	OpListWebhooks   = Op[Empty, WebhookList]{"GET", "/webhooks", "listWebhooks"}
	OpCreateWebhook  = Op[WebhookPut, CreatedWebhook]{"POST", "/webhooks", "createWebhook"}
	OpPutWebhook     = Op[WebhookUpdate, Webhook]{"PUT", "/webhooks/{id}", "putWebhook"}
	OpDeleteWebhook  = Op[Empty, WebhookList]{"DELETE", "/webhooks/{id}", "deleteWebhook"}
	OpTestWebhook    = Op[Empty, WebhookTest]{"POST", "/webhooks/{id}/test", "testWebhook"}
	OpListDeliveries = Op[DeliveryQuery, DeliveryList]{"GET", "/deliveries", "listDeliveries"}
	OpReplayDelivery = Op[Empty, Delivery]{"POST", "/deliveries/{id}/replay", "replayDelivery"}

	// Calls of the wire API, and deviations from the platform.
	OpListCalls            = Op[CallLogQuery, CallLogPage]{"GET", "/calls", "listCalls"}
	OpListCallErrors       = Op[CallSearch, CallErrorList]{"GET", "/call-errors", "listCallErrors"}
	OpGetCall              = Op[Empty, Call]{"GET", "/calls/{rid}", "getCall"}
	OpListDeviations       = Op[DeviationQuery, DeviationList]{"GET", "/deviations", "listDeviations"}
	OpResetDeviations      = Op[DeviationQuery, DeviationList]{"DELETE", "/deviations", "resetDeviations"}
	OpGetDeviationCoverage = Op[DeviationQuery, Coverage]{"GET", "/deviations/coverage", "getDeviationCoverage"}
	OpListBehaviours       = Op[Empty, BehaviourList]{"GET", "/behaviours", "listBehaviours"}

	// Settings, people, keys and the audit log.
	OpGetSettings               = Op[Empty, SettingsResponse]{"GET", "/settings", "getSettings"}
	OpPutSettings               = Op[map[string]any, SettingsResponse]{"PUT", "/settings", "putSettings"}
	OpDescribeSettings          = Op[Empty, SettingList]{"GET", "/settings/described", "describeSettings"}
	OpResetSetting              = Op[Empty, SettingsResponse]{"DELETE", "/settings/{name}", "resetSetting"}
	OpListScanKeys              = Op[Empty, ScanKeyList]{"GET", "/scan-keys", "listScanKeys"}
	OpCreateScanKey             = Op[ScanKeyPut, CreatedScanKey]{"POST", "/scan-keys", "createScanKey"}
	OpDeleteScanKey             = Op[Empty, ScanKeyList]{"DELETE", "/scan-keys/{name}", "deleteScanKey"}
	OpListPeople                = Op[Empty, PersonList]{"GET", "/people", "listPeople"}
	OpCreatePerson              = Op[PersonPut, CreatedPerson]{"POST", "/people", "createPerson"}
	OpUpdatePerson              = Op[PersonChange, CreatedPerson]{"PATCH", "/people/{name}", "updatePerson"}
	OpDeletePerson              = Op[Empty, PersonList]{"DELETE", "/people/{name}", "deletePerson"}
	OpDeleteSessions            = Op[Empty, Person]{"DELETE", "/people/{name}/sessions", "deleteSessions"}
	OpCreateLoginLink           = Op[LoginLinkRequest, LoginLink]{"POST", "/login-links", "createLoginLink"}
	OpListAdminKeys             = Op[Empty, AdminKeyList]{"GET", "/admin-keys", "listAdminKeys"}
	OpCreateAdminKey            = Op[AdminKeyPut, CreatedAdminKey]{"POST", "/admin-keys", "createAdminKey"}
	OpDeleteAdminKey            = Op[Empty, AdminKeyList]{"DELETE", "/admin-keys/{id}", "deleteAdminKey"}
	OpListFailedAuthentications = Op[Empty, FailedAuthenticationList]{"GET", "/failed-authentications", "listFailedAuthentications"}
	OpListChanges               = Op[ChangesQuery, ChangeList]{"GET", "/changes", "listChanges"}
	OpVerifyAudit               = Op[Empty, Verified]{"POST", "/audit/verify", "verifyAudit"}
	OpSearch                    = Op[SearchQuery, SearchResult]{"GET", "/search", "search"}

	// Export and import of data as files.
	OpExportAll      = Op[ExportAllRequest, File]{"POST", "/export", "exportAll"}
	OpRecordDrill    = Op[Drill, Drill]{"POST", "/drills", "recordDrill"}
	OpExportRules    = Op[Empty, File]{"GET", "/export/rules", "exportRules"}
	OpExportAccounts = Op[Empty, File]{"GET", "/export/accounts", "exportAccounts"}
	OpImportRules    = Op[ImportQuery, Imported]{"POST", "/import/rules", "importRules"}
	OpImportAccounts = Op[ImportQuery, Imported]{"POST", "/import/accounts", "importAccounts"}

	// Emulator, on a server with --dev or --emulator.
	OpGetClock        = Op[Empty, Clock]{"GET", "/emulator/clock", "getClock"}
	OpSetClock        = Op[ClockInput, Clock]{"PUT", "/emulator/clock", "setClock"}
	OpListFaults      = Op[Empty, FaultList]{"GET", "/emulator/faults", "listFaults"}
	OpAddFault        = Op[Fault, ActiveFault]{"POST", "/emulator/faults", "addFault"}
	OpClearFaults     = Op[FaultDeletion, FaultList]{"DELETE", "/emulator/faults", "clearFaults"}
	OpResetEmulator   = Op[ResetEmulatorRequest, ResetDone]{"POST", "/emulator/reset", "resetEmulator"}
	OpApplySeed       = Op[SeedRequest, SeedResult]{"POST", "/emulator/seed", "applySeed"}
	OpListRecentCalls = Op[CallQuery, CallPage]{"GET", "/emulator/calls", "listRecentCalls"}
	OpAuthorize       = Op[Consent, AuthCode]{"POST", "/emulator/authorize", "authorize"}
	OpCreateTicket    = Op[TicketRequest, VerifyTicket]{"POST", "/emulator/ticket", "createTicket"}
	OpListSnapshots   = Op[Empty, SnapshotList]{"GET", "/emulator/snapshots", "listSnapshots"}
	OpSaveSnapshot    = Op[Empty, Snapshot]{"PUT", "/emulator/snapshots/{name}", "saveSnapshot"}
	OpLoadSnapshot    = Op[Empty, Snapshot]{"POST", "/emulator/snapshots/{name}/load", "loadSnapshot"}
	OpDeleteSnapshot  = Op[Empty, SnapshotList]{"DELETE", "/emulator/snapshots/{name}", "deleteSnapshot"}
)
