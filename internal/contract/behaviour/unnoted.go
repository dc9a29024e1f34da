package behaviour

// unnoted contains the behaviours that no call can record in its Notes, each with the reason. A test verifies that the code records every
// behaviour that is absent from unnoted.
var unnoted = map[Row]string{
	WireAnswerType:     answers,
	WireAnswerPlain:    answers,
	WireAnswerRID:      answers,
	WireAnswerRIDTime:  answers,
	WireAnswerComma:    answers,
	WireAnswerAdvice:   answers,
	WireAnswerNoAdvice: answers,
	WireAnswerHint:     answers,
	WireAnswerBare:     answers,
	WireAnswerSlash:    answers,

	TokenStableBorder: "a token a second younger or older: no caller can tell",
	CodesSeparator:    answers,
	QRCodeTicket:      answers,
	MessageUserName:   answers,
	RulesGetOrder:     answers,
	RulesGetWhole:     answers,
	RulesGetOwn:       answers,

	ComponentRefreshSame: "every refresh meets it",
	RulesPublishMonth:    "every publish meets it",

	RulesConfirmAddress: fetches,
	RulesConfirmASCII:   fetches,
	RulesConfirmLiteral: fetches,

	CodesText:       operators,
	RulesUndo:       operators,
	ConsentKinds:    people,
	ConsentSame:     people,
	LinkRefused:     people,
	MessageReleased: operators,

	MessageSignature: pushes,
	QRCodeEvent:      scans,
	QRCodeOutlived:   scans,
	QRCodeShowRate:   "a picture is no call: it has a status, and no account",

	ScanMatchPath:     scans,
	ScanMatchBelow:    scans,
	ScanMatchQuery:    scans,
	ScanMatchOrigin:   scans,
	ScanMatchService:  scans,
	ScanOrder:         scans,
	ScanOrderOthers:   scans,
	ScanBlocked:       scans,
	ScanTestRole:      scans,
	ScanTestAnonymous: scans,
	ScanPlain:         scans,
	ScanPage:          scans,
	ScanEncoding:      scans,
	ScanScene:         scans,
	ScanCodeScene:     scans,
	ScanCodeFirst:     scans,
	ScanCodeUnknown:   scans,
	ScanCodeState:     scans,
	ScanCodeSerial:    scans,
	ScanCodeVersion:   scans,
}

// Reasons why no call can record a behaviour; each reason applies to many behaviours.
const (
	answers   = "the form of every answer of its kind: nothing that a caller did"
	fetches   = "the file is missing then, and rules.confirm.failed says so"
	operators = "the operator does it, through an API that the platform has no like of"
	people    = "a person does it on the page of authorisation, or an administrator"
	pushes    = "what the server sends, and no caller asked for"
	scans     = "of a scan, which an app makes and no caller of the wire; explain says it"
)

// Unnoted returns the reason why no call can record the row; "" = calls can record it.
func (r Row) Unnoted() string { return unnoted[r] }
