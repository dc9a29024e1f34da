module github.com/qrjump/qrjump/compat

go 1.26

// Packages that npm unpacks may carry Go files of their own.
ignore (
	./axios/node_modules
	./cowechat/node_modules
	./gs1/node_modules
	./jest/node_modules
	./node/node_modules
	./openapi/node_modules
	./pytest/.venv
	./python/.venv
	./rust/target
	./typescript/node_modules
	./wechatpy/.venv
	./zpl/node_modules
)
