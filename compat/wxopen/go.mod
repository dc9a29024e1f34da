module github.com/qrjump/qrjump/compat/wxopen

go 1.26

require github.com/qrjump/qrjump/compat v0.0.0

require (
	github.com/faabiosr/cachego v0.16.1
	github.com/fastwego/miniprogram v1.0.0-beta.3 // indirect
	github.com/fastwego/offiaccount v1.0.0-beta.11 // indirect
	github.com/fastwego/wxopen v1.0.0-beta.3 // indirect
)

replace github.com/qrjump/qrjump/compat => ../
