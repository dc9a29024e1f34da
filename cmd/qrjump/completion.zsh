#compdef qrjump
# zsh completion for qrjump: source <(qrjump completion zsh), or as the file _qrjump in a folder of $fpath
_qrjump() {
    local -a found items
    local line word means
    found=("${(@f)$("${words[1]/#\~\//$HOME/}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case ${found[1]} in
        :files|:folders)
            compset -P '--[^=]##='
            if [[ ${found[1]} == :files ]]; then _files; else _files -/; fi
            return ;;
    esac
    for line in "${found[@]}"; do
        [[ -n $line ]] || continue
        word=${line%%$'\t'*}
        means=''
        [[ $line == *$'\t'* ]] && means=${line#*$'\t'}
        items+=("${word//:/\\:}${means:+:$means}")
    done
    _describe -V qrjump items
}
if [[ ${funcstack[1]} == _qrjump ]]; then
    _qrjump "$@"
else
    compdef _qrjump qrjump
fi
