module github.com/qrjump/qrjump/compat/offiaccount

go 1.26

require (
	github.com/fastwego/offiaccount v1.0.1
	github.com/qrjump/qrjump/compat v0.0.0
)

require github.com/faabiosr/cachego v0.15.0 // indirect

replace github.com/qrjump/qrjump/compat => ../
