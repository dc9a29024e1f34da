# fish completion for qrjump: qrjump completion fish | source
function __qrjump_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete -- $words "$current" 2>/dev/null)
        switch $line
            case :files
                if string match -q -- '--*=*' "$current"
                    set -l flag (string replace -r -- '=.*' '=' "$current")
                    for file in (__fish_complete_path (string replace -r -- '^[^=]*=' '' "$current"))
                        echo "$flag$file"
                    end
                else
                    __fish_complete_path "$current"
                end
            case :folders
                __fish_complete_directories (string replace -r -- '^--[^=]*=' '' "$current")
            case '*'
                echo $line
        end
    end
end
complete -c qrjump -f -a '(__qrjump_complete)'
