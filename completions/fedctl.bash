# bash completion for fedctl. Written by scripts/generate out of the command line itself.
# It needs neither bash-completion nor a bash newer than 3.2, which macOS has.

_fedctl_follows() { # what may follow $path: its commands, and its flags with a = for each value
    case $path in
    'memory ls') path='memory list' ;;
    'agent ls') path='agent list' ;;
    'worker ls') path='worker list' ;;
    'pool ls') path='pool list' ;;
    'tenant ls') path='tenant list' ;;
    'token ls') path='token list' ;;
    'backup ls') path='backup list' ;;
    'config ls') path='config list' ;;
    esac
    case $path in
    '')
        commands='init status doctor top demo memory hub agent worker pool retention tenant token backup restore store config schema completion man help'
        flags='--home= --hub= --tenant= --token-file= --tls-ca= --client-cert= --client-key= --config= --format= --json --jsonl --ids --fields= --timeout= --color= -q --quiet -v --verbose --debug-level= --debug-format= --debug-category= --debug-agent= --debug-output= --debug-file= -V --version -h --help'
        ;;
    'init')
        commands=''
        flags=''
        ;;
    'status')
        commands=''
        flags=''
        ;;
    'doctor')
        commands=''
        flags='--fix -n --dry-run'
        ;;
    'top')
        commands=''
        flags='--every='
        ;;
    'demo')
        commands=''
        flags='--seconds= --path= --keep'
        ;;
    'memory')
        commands='store query get list ls delete pin unpin import export stats reindex'
        flags=''
        ;;
    'memory store')
        commands=''
        flags='--task= --input= --output= --reward= --critique= --success= --session= --agent= --tokens-used= --latency-ms= --meta= --id= --batch'
        ;;
    'memory query')
        commands=''
        flags='-k= --mode= --min-reward= --since= --until= --agent= --session= --task= --where= --reward-weight= --fresh --explain'
        ;;
    'memory get')
        commands=''
        flags=''
        ;;
    'memory list')
        commands=''
        flags='--min-reward= --since= --until= --agent= --session= --task= --where= --pinned --limit='
        ;;
    'memory delete')
        commands=''
        flags='--min-reward= --since= --until= --agent= --session= --task= --where= --hard -y --yes -n --dry-run'
        ;;
    'memory pin')
        commands=''
        flags=''
        ;;
    'memory unpin')
        commands=''
        flags=''
        ;;
    'memory import')
        commands=''
        flags='--from= --table= --on-conflict= --rejects= --no-embed'
        ;;
    'memory export')
        commands=''
        flags='--with-vectors'
        ;;
    'memory stats')
        commands=''
        flags=''
        ;;
    'memory reindex')
        commands=''
        flags='--model='
        ;;
    'hub')
        commands='start stop status cert stats events'
        flags=''
        ;;
    'hub start')
        commands=''
        flags='--host= --port= --http-port= --max-agents= --tls-cert= --tls-key= --tls-client-ca= --max-connections= --max-strangers= --allow-host= --allow-origin= --retention-every= --insecure --detach'
        ;;
    'hub stop')
        commands=''
        flags=''
        ;;
    'hub status')
        commands=''
        flags='--wait='
        ;;
    'hub cert')
        commands=''
        flags='--out= --name= --ttl= --renew'
        ;;
    'hub stats')
        commands=''
        flags='--watch='
        ;;
    'hub events')
        commands=''
        flags='--follow --since= --type= --all-tenants'
        ;;
    'agent')
        commands='spawn list ls show stop note timeline'
        flags=''
        ;;
    'agent spawn')
        commands=''
        flags='--id= --type= --lifetime= --sync-interval= --pull= --pull-limit= --embed= --undelivered='
        ;;
    'agent list')
        commands=''
        flags='--status= --watch'
        ;;
    'agent show')
        commands=''
        flags=''
        ;;
    'agent stop')
        commands=''
        flags=''
        ;;
    'agent note')
        commands=''
        flags='--kind= --data= --agent='
        ;;
    'agent timeline')
        commands=''
        flags='--limit='
        ;;
    'worker')
        commands='register heartbeat list ls show status reap'
        flags=''
        ;;
    'worker register')
        commands=''
        flags='--pool= --capability= --heartbeat-interval= --meta='
        ;;
    'worker heartbeat')
        commands=''
        flags='--every= --meta= --extend-leases'
        ;;
    'worker list')
        commands=''
        flags='--status= --stale= --capability= --pool= --limit='
        ;;
    'worker show')
        commands=''
        flags=''
        ;;
    'worker status')
        commands=''
        flags=''
        ;;
    'worker reap')
        commands=''
        flags=''
        ;;
    'pool')
        commands='push claim complete fail extend release work list ls show size items item wait retry purge pause resume'
        flags=''
        ;;
    'pool push')
        commands=''
        flags='--max-retries= --priority= --delay= --at= --key= --requires= --batch'
        ;;
    'pool claim')
        commands=''
        flags='--worker= --count= --lease= --wait='
        ;;
    'pool complete')
        commands=''
        flags='--lease-id= --result= --then-push== --episode= --batch'
        ;;
    'pool fail')
        commands=''
        flags='--lease-id= --error= --retry-in= --batch'
        ;;
    'pool extend')
        commands=''
        flags='--lease-id= --lease= --batch'
        ;;
    'pool release')
        commands=''
        flags='--lease-id= --worker= --batch'
        ;;
    'pool work')
        commands=''
        flags='-j= --jobs= --worker= --capability= --lease= --until-empty --once --max-items= --time-limit= --grace='
        ;;
    'pool list')
        commands=''
        flags='--limit='
        ;;
    'pool show')
        commands=''
        flags=''
        ;;
    'pool size')
        commands=''
        flags=''
        ;;
    'pool items')
        commands=''
        flags='--status= --limit='
        ;;
    'pool item')
        commands=''
        flags=''
        ;;
    'pool wait')
        commands=''
        flags='--timeout='
        ;;
    'pool retry')
        commands=''
        flags='--poisoned='
        ;;
    'pool purge')
        commands=''
        flags='--status= -y --yes -n --dry-run'
        ;;
    'pool pause')
        commands=''
        flags=''
        ;;
    'pool resume')
        commands=''
        flags=''
        ;;
    'retention')
        commands='set show prune explain'
        flags=''
        ;;
    'retention set')
        commands=''
        flags='--max-age= --min-reward= --max-episodes= --keep-last= --keep-success --no-keep-success --keep-where= --items-max-age= --events-max-age= --agents-max-age='
        ;;
    'retention show')
        commands=''
        flags=''
        ;;
    'retention prune')
        commands=''
        flags='--max-delete= --all-tenants --lock-wait= --max-time= --ping-url-file= -n --dry-run'
        ;;
    'retention explain')
        commands=''
        flags=''
        ;;
    'tenant')
        commands='list ls show set erase'
        flags=''
        ;;
    'tenant list')
        commands=''
        flags=''
        ;;
    'tenant show')
        commands=''
        flags=''
        ;;
    'tenant set')
        commands=''
        flags='--max-episodes= --max-bytes= --rate='
        ;;
    'tenant erase')
        commands=''
        flags='-y --yes -n --dry-run'
        ;;
    'token')
        commands='issue list ls revoke rotate-key'
        flags=''
        ;;
    'token issue')
        commands=''
        flags='--agent= --role= --ttl= --out='
        ;;
    'token list')
        commands=''
        flags=''
        ;;
    'token revoke')
        commands=''
        flags=''
        ;;
    'token rotate-key')
        commands=''
        flags='--grace='
        ;;
    'backup')
        commands='create list ls show verify prune'
        flags=''
        ;;
    'backup create')
        commands=''
        flags='--with-keys --passphrase-file= --prune --keep-last= --keep-hourly= --keep-daily= --keep-weekly= --keep-monthly= --keep-yearly= --lock-wait= --max-time= --ping-url-file='
        ;;
    'backup list')
        commands=''
        flags=''
        ;;
    'backup show')
        commands=''
        flags=''
        ;;
    'backup verify')
        commands=''
        flags='--restore-test --passphrase-file= --signed-by= --lock-wait= --max-time= --ping-url-file='
        ;;
    'backup prune')
        commands=''
        flags='--keep-last= --keep-hourly= --keep-daily= --keep-weekly= --keep-monthly= --keep-yearly= --lock-wait= --max-time= --ping-url-file= -n --dry-run'
        ;;
    'restore')
        commands=''
        flags='--to= --overwrite --passphrase-file= --signed-by= --lock-wait= -y --yes -n --dry-run'
        ;;
    'store')
        commands='check path vacuum migrate sql'
        flags=''
        ;;
    'store check')
        commands=''
        flags='--full'
        ;;
    'store path')
        commands=''
        flags=''
        ;;
    'store vacuum')
        commands=''
        flags='--lock-wait='
        ;;
    'store migrate')
        commands=''
        flags='--lock-wait='
        ;;
    'store sql')
        commands=''
        flags='--limit='
        ;;
    'config')
        commands='path list ls get set unset'
        flags=''
        ;;
    'config path')
        commands=''
        flags=''
        ;;
    'config list')
        commands=''
        flags='--origin'
        ;;
    'config get')
        commands=''
        flags=''
        ;;
    'config set')
        commands=''
        flags=''
        ;;
    'config unset')
        commands=''
        flags=''
        ;;
    'schema')
        commands='init status doctor top demo memory hub agent worker pool retention tenant token backup restore store config schema completion man help'
        flags=''
        ;;
    'schema memory')
        commands='store query get list ls delete pin unpin import export stats reindex'
        flags=''
        ;;
    'schema hub')
        commands='start stop status cert stats events'
        flags=''
        ;;
    'schema agent')
        commands='spawn list ls show stop note timeline'
        flags=''
        ;;
    'schema worker')
        commands='register heartbeat list ls show status reap'
        flags=''
        ;;
    'schema pool')
        commands='push claim complete fail extend release work list ls show size items item wait retry purge pause resume'
        flags=''
        ;;
    'schema retention')
        commands='set show prune explain'
        flags=''
        ;;
    'schema tenant')
        commands='list ls show set erase'
        flags=''
        ;;
    'schema token')
        commands='issue list ls revoke rotate-key'
        flags=''
        ;;
    'schema backup')
        commands='create list ls show verify prune'
        flags=''
        ;;
    'schema store')
        commands='check path vacuum migrate sql'
        flags=''
        ;;
    'schema config')
        commands='path list ls get set unset'
        flags=''
        ;;
    'completion')
        commands=''
        flags='--install'
        ;;
    'man')
        commands=''
        flags=''
        ;;
    'help')
        commands='init status doctor top demo memory hub agent worker pool retention tenant token backup restore store config schema completion man help'
        flags=''
        ;;
    'help memory')
        commands='store query get list ls delete pin unpin import export stats reindex'
        flags=''
        ;;
    'help hub')
        commands='start stop status cert stats events'
        flags=''
        ;;
    'help agent')
        commands='spawn list ls show stop note timeline'
        flags=''
        ;;
    'help worker')
        commands='register heartbeat list ls show status reap'
        flags=''
        ;;
    'help pool')
        commands='push claim complete fail extend release work list ls show size items item wait retry purge pause resume'
        flags=''
        ;;
    'help retention')
        commands='set show prune explain'
        flags=''
        ;;
    'help tenant')
        commands='list ls show set erase'
        flags=''
        ;;
    'help token')
        commands='issue list ls revoke rotate-key'
        flags=''
        ;;
    'help backup')
        commands='create list ls show verify prune'
        flags=''
        ;;
    'help store')
        commands='check path vacuum migrate sql'
        flags=''
        ;;
    'help config')
        commands='path list ls get set unset'
        flags=''
        ;;
    *) commands='' flags='' ;;
    esac
}

_fedctl_kind() { # what the flag or the position $1 takes
    case "$path $1" in
    'init --fields') kind='list +home +store +created' ;;
    'status --fields') kind='list +home +store +hub +tenant +episodes +tenants +pending_embeddings +agents +work +backup +retention +findings +next +gone' ;;
    'doctor --fields') kind='list +ok +warnings +failures +fixed +checks' ;;
    'top --fields') kind='list +at +tenant_id +hub +memory +agents +workers +pools +trouble' ;;
    'demo --fields') kind='list +ok +criteria +seconds +files +home' ;;
    'memory store --fields') kind='list +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq +deleted' ;;
    'memory query --fields') kind='list +rank +score +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq +match' ;;
    'memory get --fields' | 'memory list --fields' | 'memory pin --fields' | 'memory unpin --fields') kind='list +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq' ;;
    'memory delete --fields') kind='list +deleted +ids +missing +dry_run +complete +backups +notes' ;;
    'memory import --fields') kind='list +lines +imported +existing +skipped +deleted +rejected +pending_embeddings' ;;
    'memory export --fields') kind='list +path +episodes +size_bytes' ;;
    'memory stats --fields') kind='list +tenant_id +episodes +deleted +tenants +pending_embeddings +cut_episodes +index +store_bytes +disk_free_bytes +read_only' ;;
    'memory reindex --fields') kind='list +embedded +remaining +model' ;;
    'hub start --fields' | 'hub stop --fields' | 'hub status --fields') kind='list +pid +version +url +http_url +socket +home +started_at +ready' ;;
    'hub cert --fields') kind='list +ca +ca_key +cert +key +client_cert +client_key +names +expires_at +ca_expires_at' ;;
    'hub stats --fields') kind='list +connected_agents +connections +episodes +tenants +pending_embeddings +uptime_s +latencies +operations +errors +commits +acked_episodes +rss_bytes +store_bytes +wal_bytes +index_age_s +pools +items +queued +in_flight +refusals +disk_free_bytes +read_only' ;;
    'hub events --fields') kind='list +seq +tenant_id +kind +subject +detail +at' ;;
    'agent spawn --fields') kind='list +agent_id +hub' ;;
    'agent list --fields' | 'agent show --fields' | 'agent stop --fields') kind='list +id +tenant_id +type +status +spawned_at +expires_at +last_sync_at +host +pid +episodes_stored' ;;
    'agent note --fields') kind='list +id +tenant_id +agent_id +kind +text +data +at' ;;
    'agent timeline --fields') kind='list +id +agent +lived_ms +phases +moments +moments_total +counts +figures' ;;
    'worker register --fields' | 'worker status --fields') kind='list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale +released' ;;
    'worker heartbeat --fields') kind='list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale +extended' ;;
    'worker list --fields' | 'worker show --fields' | 'worker reap --fields') kind='list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale' ;;
    'pool push --fields') kind='list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +existing' ;;
    'pool claim --fields' | 'pool fail --fields' | 'pool extend --fields' | 'pool release --fields' | 'pool items --fields' | 'pool retry --fields') kind='list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires' ;;
    'pool complete --fields') kind='list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +existing +pushed +episode' ;;
    'pool work --fields') kind='list +pool +worker_id +reason +exit +done +failed +poisoned +released +lost +duration_ms +id +outcome +attempt +retry_in_ms +error' ;;
    'pool list --fields' | 'pool show --fields' | 'pool pause --fields' | 'pool resume --fields') kind='list +name +paused +pending +delayed +claimed +done +poisoned +oldest_pending_s' ;;
    'pool size --fields') kind='list +pool +size +pending +delayed' ;;
    'pool item --fields') kind='list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +history' ;;
    'pool wait --fields') kind='list +open +done +poisoned +poisoned_ids' ;;
    'pool purge --fields') kind='list +pool +deleted +dry_run' ;;
    'retention set --fields' | 'retention show --fields') kind='list +tenant_id +policy' ;;
    'retention prune --fields') kind='list +tenant_id +policy +dry_run +examined +removed +kept +reasons +bytes_freed +items_removed +events_removed +agents_removed +more +error' ;;
    'retention explain --fields') kind='list +id +verdict +removed_by +kept_by +goes_at +place +examined' ;;
    'tenant list --fields' | 'tenant show --fields' | 'tenant set --fields') kind='list +id +created_at +episodes +size_bytes +max_episodes +max_bytes +rate_per_s' ;;
    'tenant erase --fields') kind='list +tenant_id +dry_run +episodes +items +agents +workers +tokens +vectors +complete +backups +notes' ;;
    'token issue --fields' | 'token list --fields' | 'token revoke --fields') kind='list +token +path +id +tenant_id +agent_id +role +issued_at +expires_at +revoked_at' ;;
    'token rotate-key --fields') kind='list +key_id +old_keys_until +removed_keys' ;;
    'backup create --fields') kind='list +id +created_at +path +size_bytes +episodes +items +sha256 +schema_version +model +verified_at +error +sealed +own +signed_by +parts +tenants +epoch +seq +fedctl_version +restore_tested_at +pruned' ;;
    'backup list --fields' | 'backup show --fields' | 'backup verify --fields') kind='list +id +created_at +path +size_bytes +episodes +items +sha256 +schema_version +model +verified_at +error +sealed +own +signed_by +parts +tenants +epoch +seq +fedctl_version +restore_tested_at' ;;
    'backup prune --fields') kind='list +policy +dry_run +examined +removed +kept +reasons +bytes_freed +backups +damaged' ;;
    'restore --fields') kind='list +id +created_at +path +episodes +items +erased_again +epoch +notes' ;;
    'store check --fields') kind='list +checks +findings +episodes +disk_free_bytes +read_only' ;;
    'store path --fields' | 'config path --fields') kind='list +path +exists' ;;
    'store vacuum --fields') kind='list +path +before_bytes +after_bytes +freed_bytes' ;;
    'store migrate --fields') kind='list +path +schema_from +schema_to +migrated' ;;
    'config list --fields' | 'config get --fields' | 'config set --fields' | 'config unset --fields') kind='list +key +value +origin' ;;
    'schema --fields') kind='list +command +form +title +schema' ;;
    'memory get *' | 'memory delete *' | 'memory pin *' | 'memory unpin *' | 'retention explain 0') kind='@episode' ;;
    'agent spawn *' | 'pool work *') kind='command' ;;
    'pool wait *') kind='@pool @item' ;;
    'pool retry *') kind='@poisoned' ;;
    'man *') kind='+fedctl +init +status +doctor +top +demo +memory +hub +agent +worker +pool +retention +tenant +token +backup +restore +store +config +schema +completion +man +help +config.5 +exit-codes' ;;
    'memory import 0' | 'memory export 0' | 'token issue --out') kind='file' ;;
    'agent show 0' | 'agent stop 0' | 'agent timeline 0') kind='@agent' ;;
    'worker register 0' | 'worker heartbeat 0' | 'worker show 0' | 'worker status 0') kind='@worker' ;;
    'pool push 0' | 'pool claim 0' | 'pool work 0' | 'pool show 0' | 'pool size 0' | 'pool items 0' | 'pool purge 0' | 'pool pause 0' | 'pool resume 0') kind='@pool' ;;
    'pool complete 0' | 'pool fail 0' | 'pool extend 0' | 'pool release 0') kind='@claimed' ;;
    'pool item 0') kind='@item' ;;
    'tenant show 0' | 'tenant set 0' | 'tenant erase 0') kind='@tenant' ;;
    'token revoke 0') kind='@token' ;;
    'backup create 0' | 'backup list 0' | 'backup prune 0' | 'hub cert --out') kind='dir' ;;
    'backup show 0' | 'backup verify 0' | 'restore 0') kind='+latest @backup file' ;;
    'config get 0' | 'config set 0' | 'config unset 0') kind='@setting' ;;
    'completion 0') kind='+bash +zsh +fish' ;;
    'agent list --status') kind='+spawning +initializing +ready +working +idle +shutting_down +dead' ;;
    'worker list --status' | 'worker status 1') kind='+active +terminating +terminated +lost' ;;
    'pool items --status') kind='+pending +claimed +done +poisoned' ;;
    'pool purge --status') kind='+done +poisoned' ;;
    *' --home' | *' --path' | *' --model' | *' --to') kind='dir' ;;
    *' --hub') kind='+auto +off' ;;
    *' --tenant') kind='@tenant' ;;
    *' --token-file' | *' --tls-ca' | *' --client-cert' | *' --client-key' | *' --config' | *' --debug-file' | *' --rejects' | *' --tls-cert' | *' --tls-key' | *' --tls-client-ca' | *' --undelivered' | *' --ping-url-file' | *' --passphrase-file') kind='file' ;;
    *' --format') kind='+table +json +jsonl +tsv +ids' ;;
    *' --color') kind='+auto +always +never' ;;
    *' --debug-level') kind='+silent +basic +detailed +verbose +trace' ;;
    *' --debug-format') kind='+human +json +compact' ;;
    *' --debug-category') kind='+agent +command +commit +embedding +error +event +hub +index +item +link +memory +pool +retention +session +store +sync +tenant +token +work +worker' ;;
    *' --debug-agent' | *' --agent') kind='@agent' ;;
    *' --debug-output') kind='+console +file +both' ;;
    *' --success') kind='+true +false' ;;
    *' --mode') kind='+hybrid +semantic +keyword' ;;
    *' --from') kind='+jsonl +json +csv +tsv +sqlite' ;;
    *' --on-conflict') kind='+skip +error' ;;
    *' --embed') kind='+hub +local' ;;
    *' --kind') kind='+task +step +decision +message' ;;
    *' --pool' | *' --then-push' | *' --poisoned') kind='@pool' ;;
    *' --stale') kind='+auto' ;;
    *' --worker') kind='@worker' ;;
    *' --max-age' | *' --min-reward' | *' --max-episodes' | *' --keep-last' | *' --keep-where' | *' --items-max-age' | *' --events-max-age' | *' --agents-max-age' | *' --max-bytes' | *' --rate') kind='+none' ;;
    *' --role') kind='+agent +admin +operator' ;;
    *) kind='' ;;
    esac
}

_fedctl_ask() {
    "$program" ${where[@]+"${where[@]}"} --timeout 2s -q "$@" --ids </dev/null 2>/dev/null
}

_fedctl_known() {
    local pool
    case $1 in
    agent) _fedctl_ask agent list ;;
    backup) _fedctl_ask backup list ;;
    episode) _fedctl_ask memory list --limit 100 ;;
    pool) _fedctl_ask pool list --limit 100 ;;
    setting) _fedctl_ask config list ;;
    tenant) _fedctl_ask tenant list ;;
    token) _fedctl_ask token list ;;
    worker) _fedctl_ask worker list --limit 100 ;;
    item) _fedctl_items ;;
    claimed) _fedctl_items --status claimed ;;
    poisoned) _fedctl_items --status poisoned ;;
    esac
}

_fedctl_items() {
    local pool
    for pool in $(_fedctl_ask pool list --limit 100 | head -n 5); do _fedctl_ask pool items "$pool" --limit 100 "$@"; done
}

_fedctl_words() { # the words up to the cursor; bash breaks them at = and : as well, and here they are whole again
    local rest=${COMP_LINE:0:COMP_POINT} word i blank
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${rest%%[![:blank:]]*}
        rest=${rest#"$blank"}
        word=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && word=$rest
        rest=${rest#"$word"}
        if [[ -n $blank || $i -eq 0 ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
    done
}

_fedctl_plain() { # a word as the command will see it, as far as that can be told without running anything
    plain=$1
    plain=${plain//[\"\'\\]/}
    case $plain in '~/'*) plain=$HOME/${plain#??} ;; esac
}

_fedctl_keep() { # whom to ask
    local plain
    case $1 in
    --home | --hub | --tenant | --token-file | --tls-ca | --client-cert | --client-key | --config)
        _fedctl_plain "$2"
        where+=("$1" "$plain")
        ;;
    esac
}

_fedctl_default() { # readline's own completion, where bash is new enough to be asked for it
    type compopt >/dev/null 2>&1 && compopt -o "$1" 2>/dev/null
    return 0
}

_fedctl() {
    local IFS=$' \t\n' path='' commands flags globals kind program plain flag='' more=0 position=0 rest=-1
    local i word cur head before='' found='' break_
    local -a where words
    where=()
    COMPREPLY=()
    _fedctl_words
    _fedctl_plain "${words[0]}"
    program=$plain
    _fedctl_follows
    globals=$flags flags=''
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        if ((rest >= 0)); then
            rest=$((rest + 1))
            continue
        fi
        if ((more)); then
            _fedctl_keep "$flag" "$word"
            more=$((more - 1))
            continue
        fi
        case $word in
        --) rest=0 ;;
        --*=*) _fedctl_keep "${word%%=*}" "${word#*=}" ;;
        -?*)
            flag=$word
            case " $flags $globals " in
            *" $word== "*) more=2 ;;
            *" $word= "*) more=1 ;;
            esac
            ;;
        *)
            case " $commands " in
            *" $word "*)
                path="${path:+$path }$word"
                _fedctl_follows
                ;;
            *) position=$((position + 1)) ;;
            esac
            ;;
        esac
    done
    cur=${words[${#words[@]} - 1]}
    head=$cur
    if ((more)); then
        _fedctl_kind "$flag"
        case " $flags $globals " in *" $flag== "*) ((more == 1)) && kind='' ;; esac
    elif ((rest >= 0)); then
        kind=''
        ((rest == 0)) && _fedctl_kind '*'
        [[ $kind == command ]] || kind=file
    else
        case $cur in
        --*=*)
            _fedctl_kind "${cur%%=*}"
            before=${cur%%=*}=
            cur=${cur#*=}
            ;;
        -*)
            kind=''
            for word in $flags $globals; do found="$found${word%%=*}"$'\n'; done
            ;;
        *)
            if [[ -n $commands ]]; then
                kind=''
                for word in $commands; do found="$found$word"$'\n'; done
            else
                _fedctl_kind "$position"
                [[ -n $kind ]] || _fedctl_kind '*'
                [[ $kind == command ]] && kind=''
            fi
            ;;
        esac
    fi
    for word in $kind; do
        case $word in
        +*) found="$found${word#+}"$'\n' ;;
        @*) found="$found$(_fedctl_known "${word#@}")"$'\n' ;;
        list)
            before=$before${cur%"${cur##*,}"}
            cur=${cur##*,}
            _fedctl_default nospace
            ;;
        file) _fedctl_default default ;;
        dir) _fedctl_default dirnames ;;
        command) COMPREPLY=($(compgen -c -- "$cur")) ;;
        esac
    done
    # What is answered takes the place of what stands behind the last : or = that bash breaks words at.
    for break_ in : =; do
        case $COMP_WORDBREAKS in *"$break_"*) head=${head##*"$break_"} ;; esac
    done
    plain=${words[${#words[@]} - 1]}
    head=${plain%"$head"}
    while IFS= read -r word; do
        case $word in '' | *[!A-Za-z0-9._:@%+,/=-]*) continue ;; esac
        case $word in "$cur"*)
            word=$before$word
            COMPREPLY+=("${word#"$head"}")
            ;;
        esac
    done <<<"$found"
}

if type compopt >/dev/null 2>&1; then
    complete -F _fedctl fedctl
else
    complete -o default -F _fedctl fedctl
fi
