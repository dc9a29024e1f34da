# bash completion for qrjump: source <(qrjump completion bash)
_qrjump() {
    local -a words=() found=()
    local i word glued='' last line
    # bash takes apart what has a = or a : in it, such as --flag=value and https://…
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && { [[ $glued ]] || [[ $word == [=:]* && ${words[-1]} ]]; }; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        glued=''
        [[ $word == *[=:] && $COMP_WORDBREAKS == *"${word: -1}"* ]] && glued=yes
    done
    ((${#words[@]})) || words=('')
    last=${words[-1]}
    COMPREPLY=()
    mapfile -t found < <("${COMP_WORDS[0]/#\~\//$HOME/}" __complete -- "${words[@]}" 2>/dev/null)
    for line in "${found[@]}"; do
        case $line in
            :files) compopt -o default; return ;;
            :folders) compopt -o dirnames; return ;;
        esac
        word=${line%%$'\t'*}
        # What is before the last = or : stays on the line.
        [[ $last == *[=:]* ]] && word=${word#"${last%"${last##*[=:]}"}"}
        COMPREPLY+=("$(printf '%q' "$word")")
    done
}
complete -F _qrjump qrjump
