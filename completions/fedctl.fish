# fish completion for fedctl. Written by scripts/generate out of the command line itself.

function __fedctl_path --argument-names path # the path itself, by its first name
    switch $path
        case 'memory ls'
            echo 'memory list'
        case 'agent ls'
            echo 'agent list'
        case 'worker ls'
            echo 'worker list'
        case 'pool ls'
            echo 'pool list'
        case 'tenant ls'
            echo 'tenant list'
        case 'token ls'
            echo 'token list'
        case 'backup ls'
            echo 'backup list'
        case 'config ls'
            echo 'config list'
        case '*'
            echo $path
    end
end

function __fedctl_commands --argument-names path # the words below it, each with its line
    switch $path
        case ''
            printf '%s\t%s\n' 'init' 'Make the home and its store. Doing it again changes nothing.'
            printf '%s\t%s\n' 'status' 'Show the home, the store, the hub, the tenant\'s memory, agents and work, and what to do next.'
            printf '%s\t%s\n' 'doctor' 'Look at the home, the store, the hub and the machine for what is wrong, and say what mends it.'
            printf '%s\t%s\n' 'top' 'Watch the hub, the agents, the workers and the pools live; q or Ctrl-C leaves.'
            printf '%s\t%s\n' 'demo' 'Run a hub and five agents on real work, kill the hub, start it again, and check what they promise.'
            printf '%s\t%s\n' 'memory' 'Store, search and carry episodes.'
            printf '%s\t%s\n' 'hub' 'Run the hub that agents connect to.'
            printf '%s\t%s\n' 'agent' 'Spawn agents and watch them.'
            printf '%s\t%s\n' 'worker' 'Register workers, and see who is still alive.'
            printf '%s\t%s\n' 'pool' 'Hand out work once, and bring it back when a worker dies.'
            printf '%s\t%s\n' 'retention' 'Say what is kept and for how long, and let the rest go.'
            printf '%s\t%s\n' 'tenant' 'See what tenants have, and limit what they may have.'
            printf '%s\t%s\n' 'token' 'Issue, list and revoke access tokens, and change the key that signs them.'
            printf '%s\t%s\n' 'backup' 'Make backups, check them, and forget old ones.'
            printf '%s\t%s\n' 'restore' 'Restore a backup: all of it is checked first, and the store is the old one or the new one, never a mix.'
            printf '%s\t%s\n' 'store' 'Look after the store on disk.'
            printf '%s\t%s\n' 'config' 'Read and write settings.'
            printf '%s\t%s\n' 'schema' 'Print the JSON Schema of what a command answers with, or list what there is.'
            printf '%s\t%s\n' 'completion' 'Print a shell\'s completion script, or install it for this user.'
            printf '%s\t%s\n' 'man' 'Show a page of the manual: by `man` on a terminal, else as text.'
            printf '%s\t%s\n' 'help' 'Show the help of a command, as its --help does.'
        case 'memory'
            printf '%s\t%s\n' 'store' 'Store an episode: what was tried, and what came of it.'
            printf '%s\t%s\n' 'query' 'Search the memory, best hits first.'
            printf '%s\t%s\n' 'get' 'Show episodes by id: one as an object, several as a list.'
            printf '%s\t%s\n' 'list' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'ls' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'delete' 'Delete episodes by id, or all that a filter names (which asks first).'
            printf '%s\t%s\n' 'pin' 'Keep episodes, whatever the policy of `fedctl retention` says.'
            printf '%s\t%s\n' 'unpin' 'Let the policy decide about episodes again.'
            printf '%s\t%s\n' 'import' 'Store the episodes of a file and embed them. Doing it twice is the same as once.'
            printf '%s\t%s\n' 'export' 'Write all episodes as JSON lines, the oldest first, in the form that import takes.'
            printf '%s\t%s\n' 'stats' 'Count what the tenant remembers, and what is still to be embedded.'
            printf '%s\t%s\n' 'reindex' 'Embed what lacks its vector, and write the index anew; with --model, everything with another model.'
        case 'hub'
            printf '%s\t%s\n' 'start' 'Run a hub on this home until SIGTERM or Ctrl-C.'
            printf '%s\t%s\n' 'stop' 'Stop this home\'s hub: what is in flight is answered, then it ends. Without a hub there is nothing to do.'
            printf '%s\t%s\n' 'status' 'Show where the hub listens. Exit 7 when there is none, 8 when --wait ran out.'
            printf '%s\t%s\n' 'cert' 'Make an authority of one\'s own, a certificate for the hub, and one for clients, each with its key.'
            printf '%s\t%s\n' 'stats' 'Show the hub\'s figures.'
            printf '%s\t%s\n' 'events' 'Show what happened, oldest first: agents, episodes, items, workers, tokens. Works with a hub and without.'
        case 'agent'
            printf '%s\t%s\n' 'spawn' 'Spawn an agent: a memory of its own for CMD, filled before and synced until it ends.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one agent.'
            printf '%s\t%s\n' 'stop' 'Ask an agent to end early, with its final sync.'
            printf '%s\t%s\n' 'note' 'Note what an agent does, for its timeline and for who watches. At most 4 KiB of text, 16 KiB of data.'
            printf '%s\t%s\n' 'timeline' 'Show what an agent did and when: its phases, notes and syncs, counts, and how long its operations took.'
        case 'worker'
            printf '%s\t%s\n' 'register' 'Register a worker: this machine and the process that called this command.'
            printf '%s\t%s\n' 'heartbeat' 'Say that a worker is alive; a lost one is active again.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one worker.'
            printf '%s\t%s\n' 'status' 'Set a worker\'s status. Who is terminating or terminated claims nothing more.'
            printf '%s\t%s\n' 'reap' 'Mark stale workers lost, and give back what they held; list them.'
        case 'pool'
            printf '%s\t%s\n' 'push' 'Push an item into a pool.'
            printf '%s\t%s\n' 'claim' 'Claim items to work on them.'
            printf '%s\t%s\n' 'complete' 'Complete an item, with its result and what follows from it.'
            printf '%s\t%s\n' 'fail' 'Give an item back as failed.'
            printf '%s\t%s\n' 'extend' 'Let a lease end --lease from now.'
            printf '%s\t%s\n' 'release' 'Give an item back as if it had never been claimed.'
            printf '%s\t%s\n' 'work' 'Claim items, run CMD for each, report what came of it; until told to stop, or by --until-empty.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'show' 'Show a pool\'s figures. One that was never used reads as empty.'
            printf '%s\t%s\n' 'size' 'Count the items that are to be done and that nobody holds.'
            printf '%s\t%s\n' 'items' 'List a pool\'s items in the order they were pushed.'
            printf '%s\t%s\n' 'item' 'Show an item, with the history of its attempts.'
            printf '%s\t%s\n' 'wait' 'Wait until items, or all of a pool, are done or poisoned.'
            printf '%s\t%s\n' 'retry' 'Give poisoned items a fresh budget of attempts.'
            printf '%s\t%s\n' 'purge' 'Delete a pool\'s items. What is claimed stays.'
            printf '%s\t%s\n' 'pause' 'Let nothing be claimed from a pool.'
            printf '%s\t%s\n' 'resume' 'Let items of a paused pool be claimed again.'
        case 'retention'
            printf '%s\t%s\n' 'set' 'Set the tenant\'s policy; `none` lifts a rule, what is not named stays as it is.'
            printf '%s\t%s\n' 'show' 'Show the tenant\'s policy; what is empty is no rule.'
            printf '%s\t%s\n' 'prune' 'Carry out the policy: what it names goes for good, in small steps that hold up nobody.'
            printf '%s\t%s\n' 'explain' 'Say whether an episode would go if the policy were carried out now, and by which rule.'
        case 'tenant'
            printf '%s\t%s\n' 'list' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'ls' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'show' 'Show what a tenant has, and what it may have.'
            printf '%s\t%s\n' 'set' 'Limit what a tenant may have; `none` lifts a limit, what is not named stays.'
            printf '%s\t%s\n' 'erase' 'Erase a tenant and all that it has, for good: afterwards no byte of its text is in the home.'
        case 'token'
            printf '%s\t%s\n' 'issue' 'Issue a token for the tenant named by --tenant. It is shown this once.'
            printf '%s\t%s\n' 'list' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'ls' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'revoke' 'Refuse a token from now on, and end the sessions that were opened with it.'
            printf '%s\t%s\n' 'rotate-key' 'Sign tokens with a new key from now on; running hubs go by it at once.'
        case 'backup'
            printf '%s\t%s\n' 'create' 'Back the store up while others go on writing, and read the backup again before it counts.'
            printf '%s\t%s\n' 'list' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'ls' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'show' 'Show what a backup says it holds, who signed it, and when it was last found whole. A damaged one: exit 13.'
            printf '%s\t%s\n' 'verify' 'Read all of a backup, and say whether it is what was made; if not: exit 13.'
            printf '%s\t%s\n' 'prune' 'Remove this home\'s backups that no rule keeps; the newest whole one always stays.'
        case 'store'
            printf '%s\t%s\n' 'check' 'Check that the store is whole and that what is derived from it agrees with it.'
            printf '%s\t%s\n' 'path' 'Print where the store\'s database is, whether or not there is one.'
            printf '%s\t%s\n' 'vacuum' 'Write the store anew, without the room that deleted rows left in it. Nobody else may use it meanwhile.'
            printf '%s\t%s\n' 'migrate' 'Bring the store to this fedctl\'s schema, and say which it had. Any command does it when it opens the store.'
            printf '%s\t%s\n' 'sql' 'Ask the database itself, read only, with a hub running or without. The tables may change with any version.'
        case 'config'
            printf '%s\t%s\n' 'path' 'Print where the settings are kept, whether or not there are any.'
            printf '%s\t%s\n' 'list' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'ls' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'get' 'Print one setting\'s value.'
            printf '%s\t%s\n' 'set' 'Keep a setting in the home\'s config.toml (or the file named by --config).'
            printf '%s\t%s\n' 'unset' 'Take a setting out of the file that `config set` writes; what it is from then on is the answer.'
        case 'schema'
            printf '%s\t%s\n' 'init' 'Make the home and its store. Doing it again changes nothing.'
            printf '%s\t%s\n' 'status' 'Show the home, the store, the hub, the tenant\'s memory, agents and work, and what to do next.'
            printf '%s\t%s\n' 'doctor' 'Look at the home, the store, the hub and the machine for what is wrong, and say what mends it.'
            printf '%s\t%s\n' 'top' 'Watch the hub, the agents, the workers and the pools live; q or Ctrl-C leaves.'
            printf '%s\t%s\n' 'demo' 'Run a hub and five agents on real work, kill the hub, start it again, and check what they promise.'
            printf '%s\t%s\n' 'memory' 'Store, search and carry episodes.'
            printf '%s\t%s\n' 'hub' 'Run the hub that agents connect to.'
            printf '%s\t%s\n' 'agent' 'Spawn agents and watch them.'
            printf '%s\t%s\n' 'worker' 'Register workers, and see who is still alive.'
            printf '%s\t%s\n' 'pool' 'Hand out work once, and bring it back when a worker dies.'
            printf '%s\t%s\n' 'retention' 'Say what is kept and for how long, and let the rest go.'
            printf '%s\t%s\n' 'tenant' 'See what tenants have, and limit what they may have.'
            printf '%s\t%s\n' 'token' 'Issue, list and revoke access tokens, and change the key that signs them.'
            printf '%s\t%s\n' 'backup' 'Make backups, check them, and forget old ones.'
            printf '%s\t%s\n' 'restore' 'Restore a backup: all of it is checked first, and the store is the old one or the new one, never a mix.'
            printf '%s\t%s\n' 'store' 'Look after the store on disk.'
            printf '%s\t%s\n' 'config' 'Read and write settings.'
            printf '%s\t%s\n' 'schema' 'Print the JSON Schema of what a command answers with, or list what there is.'
            printf '%s\t%s\n' 'completion' 'Print a shell\'s completion script, or install it for this user.'
            printf '%s\t%s\n' 'man' 'Show a page of the manual: by `man` on a terminal, else as text.'
            printf '%s\t%s\n' 'help' 'Show the help of a command, as its --help does.'
        case 'schema memory'
            printf '%s\t%s\n' 'store' 'Store an episode: what was tried, and what came of it.'
            printf '%s\t%s\n' 'query' 'Search the memory, best hits first.'
            printf '%s\t%s\n' 'get' 'Show episodes by id: one as an object, several as a list.'
            printf '%s\t%s\n' 'list' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'ls' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'delete' 'Delete episodes by id, or all that a filter names (which asks first).'
            printf '%s\t%s\n' 'pin' 'Keep episodes, whatever the policy of `fedctl retention` says.'
            printf '%s\t%s\n' 'unpin' 'Let the policy decide about episodes again.'
            printf '%s\t%s\n' 'import' 'Store the episodes of a file and embed them. Doing it twice is the same as once.'
            printf '%s\t%s\n' 'export' 'Write all episodes as JSON lines, the oldest first, in the form that import takes.'
            printf '%s\t%s\n' 'stats' 'Count what the tenant remembers, and what is still to be embedded.'
            printf '%s\t%s\n' 'reindex' 'Embed what lacks its vector, and write the index anew; with --model, everything with another model.'
        case 'schema hub'
            printf '%s\t%s\n' 'start' 'Run a hub on this home until SIGTERM or Ctrl-C.'
            printf '%s\t%s\n' 'stop' 'Stop this home\'s hub: what is in flight is answered, then it ends. Without a hub there is nothing to do.'
            printf '%s\t%s\n' 'status' 'Show where the hub listens. Exit 7 when there is none, 8 when --wait ran out.'
            printf '%s\t%s\n' 'cert' 'Make an authority of one\'s own, a certificate for the hub, and one for clients, each with its key.'
            printf '%s\t%s\n' 'stats' 'Show the hub\'s figures.'
            printf '%s\t%s\n' 'events' 'Show what happened, oldest first: agents, episodes, items, workers, tokens. Works with a hub and without.'
        case 'schema agent'
            printf '%s\t%s\n' 'spawn' 'Spawn an agent: a memory of its own for CMD, filled before and synced until it ends.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one agent.'
            printf '%s\t%s\n' 'stop' 'Ask an agent to end early, with its final sync.'
            printf '%s\t%s\n' 'note' 'Note what an agent does, for its timeline and for who watches. At most 4 KiB of text, 16 KiB of data.'
            printf '%s\t%s\n' 'timeline' 'Show what an agent did and when: its phases, notes and syncs, counts, and how long its operations took.'
        case 'schema worker'
            printf '%s\t%s\n' 'register' 'Register a worker: this machine and the process that called this command.'
            printf '%s\t%s\n' 'heartbeat' 'Say that a worker is alive; a lost one is active again.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one worker.'
            printf '%s\t%s\n' 'status' 'Set a worker\'s status. Who is terminating or terminated claims nothing more.'
            printf '%s\t%s\n' 'reap' 'Mark stale workers lost, and give back what they held; list them.'
        case 'schema pool'
            printf '%s\t%s\n' 'push' 'Push an item into a pool.'
            printf '%s\t%s\n' 'claim' 'Claim items to work on them.'
            printf '%s\t%s\n' 'complete' 'Complete an item, with its result and what follows from it.'
            printf '%s\t%s\n' 'fail' 'Give an item back as failed.'
            printf '%s\t%s\n' 'extend' 'Let a lease end --lease from now.'
            printf '%s\t%s\n' 'release' 'Give an item back as if it had never been claimed.'
            printf '%s\t%s\n' 'work' 'Claim items, run CMD for each, report what came of it; until told to stop, or by --until-empty.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'show' 'Show a pool\'s figures. One that was never used reads as empty.'
            printf '%s\t%s\n' 'size' 'Count the items that are to be done and that nobody holds.'
            printf '%s\t%s\n' 'items' 'List a pool\'s items in the order they were pushed.'
            printf '%s\t%s\n' 'item' 'Show an item, with the history of its attempts.'
            printf '%s\t%s\n' 'wait' 'Wait until items, or all of a pool, are done or poisoned.'
            printf '%s\t%s\n' 'retry' 'Give poisoned items a fresh budget of attempts.'
            printf '%s\t%s\n' 'purge' 'Delete a pool\'s items. What is claimed stays.'
            printf '%s\t%s\n' 'pause' 'Let nothing be claimed from a pool.'
            printf '%s\t%s\n' 'resume' 'Let items of a paused pool be claimed again.'
        case 'schema retention'
            printf '%s\t%s\n' 'set' 'Set the tenant\'s policy; `none` lifts a rule, what is not named stays as it is.'
            printf '%s\t%s\n' 'show' 'Show the tenant\'s policy; what is empty is no rule.'
            printf '%s\t%s\n' 'prune' 'Carry out the policy: what it names goes for good, in small steps that hold up nobody.'
            printf '%s\t%s\n' 'explain' 'Say whether an episode would go if the policy were carried out now, and by which rule.'
        case 'schema tenant'
            printf '%s\t%s\n' 'list' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'ls' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'show' 'Show what a tenant has, and what it may have.'
            printf '%s\t%s\n' 'set' 'Limit what a tenant may have; `none` lifts a limit, what is not named stays.'
            printf '%s\t%s\n' 'erase' 'Erase a tenant and all that it has, for good: afterwards no byte of its text is in the home.'
        case 'schema token'
            printf '%s\t%s\n' 'issue' 'Issue a token for the tenant named by --tenant. It is shown this once.'
            printf '%s\t%s\n' 'list' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'ls' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'revoke' 'Refuse a token from now on, and end the sessions that were opened with it.'
            printf '%s\t%s\n' 'rotate-key' 'Sign tokens with a new key from now on; running hubs go by it at once.'
        case 'schema backup'
            printf '%s\t%s\n' 'create' 'Back the store up while others go on writing, and read the backup again before it counts.'
            printf '%s\t%s\n' 'list' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'ls' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'show' 'Show what a backup says it holds, who signed it, and when it was last found whole. A damaged one: exit 13.'
            printf '%s\t%s\n' 'verify' 'Read all of a backup, and say whether it is what was made; if not: exit 13.'
            printf '%s\t%s\n' 'prune' 'Remove this home\'s backups that no rule keeps; the newest whole one always stays.'
        case 'schema store'
            printf '%s\t%s\n' 'check' 'Check that the store is whole and that what is derived from it agrees with it.'
            printf '%s\t%s\n' 'path' 'Print where the store\'s database is, whether or not there is one.'
            printf '%s\t%s\n' 'vacuum' 'Write the store anew, without the room that deleted rows left in it. Nobody else may use it meanwhile.'
            printf '%s\t%s\n' 'migrate' 'Bring the store to this fedctl\'s schema, and say which it had. Any command does it when it opens the store.'
            printf '%s\t%s\n' 'sql' 'Ask the database itself, read only, with a hub running or without. The tables may change with any version.'
        case 'schema config'
            printf '%s\t%s\n' 'path' 'Print where the settings are kept, whether or not there are any.'
            printf '%s\t%s\n' 'list' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'ls' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'get' 'Print one setting\'s value.'
            printf '%s\t%s\n' 'set' 'Keep a setting in the home\'s config.toml (or the file named by --config).'
            printf '%s\t%s\n' 'unset' 'Take a setting out of the file that `config set` writes; what it is from then on is the answer.'
        case 'help'
            printf '%s\t%s\n' 'init' 'Make the home and its store. Doing it again changes nothing.'
            printf '%s\t%s\n' 'status' 'Show the home, the store, the hub, the tenant\'s memory, agents and work, and what to do next.'
            printf '%s\t%s\n' 'doctor' 'Look at the home, the store, the hub and the machine for what is wrong, and say what mends it.'
            printf '%s\t%s\n' 'top' 'Watch the hub, the agents, the workers and the pools live; q or Ctrl-C leaves.'
            printf '%s\t%s\n' 'demo' 'Run a hub and five agents on real work, kill the hub, start it again, and check what they promise.'
            printf '%s\t%s\n' 'memory' 'Store, search and carry episodes.'
            printf '%s\t%s\n' 'hub' 'Run the hub that agents connect to.'
            printf '%s\t%s\n' 'agent' 'Spawn agents and watch them.'
            printf '%s\t%s\n' 'worker' 'Register workers, and see who is still alive.'
            printf '%s\t%s\n' 'pool' 'Hand out work once, and bring it back when a worker dies.'
            printf '%s\t%s\n' 'retention' 'Say what is kept and for how long, and let the rest go.'
            printf '%s\t%s\n' 'tenant' 'See what tenants have, and limit what they may have.'
            printf '%s\t%s\n' 'token' 'Issue, list and revoke access tokens, and change the key that signs them.'
            printf '%s\t%s\n' 'backup' 'Make backups, check them, and forget old ones.'
            printf '%s\t%s\n' 'restore' 'Restore a backup: all of it is checked first, and the store is the old one or the new one, never a mix.'
            printf '%s\t%s\n' 'store' 'Look after the store on disk.'
            printf '%s\t%s\n' 'config' 'Read and write settings.'
            printf '%s\t%s\n' 'schema' 'Print the JSON Schema of what a command answers with, or list what there is.'
            printf '%s\t%s\n' 'completion' 'Print a shell\'s completion script, or install it for this user.'
            printf '%s\t%s\n' 'man' 'Show a page of the manual: by `man` on a terminal, else as text.'
            printf '%s\t%s\n' 'help' 'Show the help of a command, as its --help does.'
        case 'help memory'
            printf '%s\t%s\n' 'store' 'Store an episode: what was tried, and what came of it.'
            printf '%s\t%s\n' 'query' 'Search the memory, best hits first.'
            printf '%s\t%s\n' 'get' 'Show episodes by id: one as an object, several as a list.'
            printf '%s\t%s\n' 'list' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'ls' 'List episodes, the last stored first.'
            printf '%s\t%s\n' 'delete' 'Delete episodes by id, or all that a filter names (which asks first).'
            printf '%s\t%s\n' 'pin' 'Keep episodes, whatever the policy of `fedctl retention` says.'
            printf '%s\t%s\n' 'unpin' 'Let the policy decide about episodes again.'
            printf '%s\t%s\n' 'import' 'Store the episodes of a file and embed them. Doing it twice is the same as once.'
            printf '%s\t%s\n' 'export' 'Write all episodes as JSON lines, the oldest first, in the form that import takes.'
            printf '%s\t%s\n' 'stats' 'Count what the tenant remembers, and what is still to be embedded.'
            printf '%s\t%s\n' 'reindex' 'Embed what lacks its vector, and write the index anew; with --model, everything with another model.'
        case 'help hub'
            printf '%s\t%s\n' 'start' 'Run a hub on this home until SIGTERM or Ctrl-C.'
            printf '%s\t%s\n' 'stop' 'Stop this home\'s hub: what is in flight is answered, then it ends. Without a hub there is nothing to do.'
            printf '%s\t%s\n' 'status' 'Show where the hub listens. Exit 7 when there is none, 8 when --wait ran out.'
            printf '%s\t%s\n' 'cert' 'Make an authority of one\'s own, a certificate for the hub, and one for clients, each with its key.'
            printf '%s\t%s\n' 'stats' 'Show the hub\'s figures.'
            printf '%s\t%s\n' 'events' 'Show what happened, oldest first: agents, episodes, items, workers, tokens. Works with a hub and without.'
        case 'help agent'
            printf '%s\t%s\n' 'spawn' 'Spawn an agent: a memory of its own for CMD, filled before and synced until it ends.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s agents, living and dead, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one agent.'
            printf '%s\t%s\n' 'stop' 'Ask an agent to end early, with its final sync.'
            printf '%s\t%s\n' 'note' 'Note what an agent does, for its timeline and for who watches. At most 4 KiB of text, 16 KiB of data.'
            printf '%s\t%s\n' 'timeline' 'Show what an agent did and when: its phases, notes and syncs, counts, and how long its operations took.'
        case 'help worker'
            printf '%s\t%s\n' 'register' 'Register a worker: this machine and the process that called this command.'
            printf '%s\t%s\n' 'heartbeat' 'Say that a worker is alive; a lost one is active again.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s workers, the newest first.'
            printf '%s\t%s\n' 'show' 'Show one worker.'
            printf '%s\t%s\n' 'status' 'Set a worker\'s status. Who is terminating or terminated claims nothing more.'
            printf '%s\t%s\n' 'reap' 'Mark stale workers lost, and give back what they held; list them.'
        case 'help pool'
            printf '%s\t%s\n' 'push' 'Push an item into a pool.'
            printf '%s\t%s\n' 'claim' 'Claim items to work on them.'
            printf '%s\t%s\n' 'complete' 'Complete an item, with its result and what follows from it.'
            printf '%s\t%s\n' 'fail' 'Give an item back as failed.'
            printf '%s\t%s\n' 'extend' 'Let a lease end --lease from now.'
            printf '%s\t%s\n' 'release' 'Give an item back as if it had never been claimed.'
            printf '%s\t%s\n' 'work' 'Claim items, run CMD for each, report what came of it; until told to stop, or by --until-empty.'
            printf '%s\t%s\n' 'list' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'ls' 'List the tenant\'s pools with their figures, by name.'
            printf '%s\t%s\n' 'show' 'Show a pool\'s figures. One that was never used reads as empty.'
            printf '%s\t%s\n' 'size' 'Count the items that are to be done and that nobody holds.'
            printf '%s\t%s\n' 'items' 'List a pool\'s items in the order they were pushed.'
            printf '%s\t%s\n' 'item' 'Show an item, with the history of its attempts.'
            printf '%s\t%s\n' 'wait' 'Wait until items, or all of a pool, are done or poisoned.'
            printf '%s\t%s\n' 'retry' 'Give poisoned items a fresh budget of attempts.'
            printf '%s\t%s\n' 'purge' 'Delete a pool\'s items. What is claimed stays.'
            printf '%s\t%s\n' 'pause' 'Let nothing be claimed from a pool.'
            printf '%s\t%s\n' 'resume' 'Let items of a paused pool be claimed again.'
        case 'help retention'
            printf '%s\t%s\n' 'set' 'Set the tenant\'s policy; `none` lifts a rule, what is not named stays as it is.'
            printf '%s\t%s\n' 'show' 'Show the tenant\'s policy; what is empty is no rule.'
            printf '%s\t%s\n' 'prune' 'Carry out the policy: what it names goes for good, in small steps that hold up nobody.'
            printf '%s\t%s\n' 'explain' 'Say whether an episode would go if the policy were carried out now, and by which rule.'
        case 'help tenant'
            printf '%s\t%s\n' 'list' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'ls' 'List the tenants by name. An admin\'s token shows its own.'
            printf '%s\t%s\n' 'show' 'Show what a tenant has, and what it may have.'
            printf '%s\t%s\n' 'set' 'Limit what a tenant may have; `none` lifts a limit, what is not named stays.'
            printf '%s\t%s\n' 'erase' 'Erase a tenant and all that it has, for good: afterwards no byte of its text is in the home.'
        case 'help token'
            printf '%s\t%s\n' 'issue' 'Issue a token for the tenant named by --tenant. It is shown this once.'
            printf '%s\t%s\n' 'list' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'ls' 'List what was issued, the newest first. The tokens themselves are not kept.'
            printf '%s\t%s\n' 'revoke' 'Refuse a token from now on, and end the sessions that were opened with it.'
            printf '%s\t%s\n' 'rotate-key' 'Sign tokens with a new key from now on; running hubs go by it at once.'
        case 'help backup'
            printf '%s\t%s\n' 'create' 'Back the store up while others go on writing, and read the backup again before it counts.'
            printf '%s\t%s\n' 'list' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'ls' 'List the backups, oldest first.'
            printf '%s\t%s\n' 'show' 'Show what a backup says it holds, who signed it, and when it was last found whole. A damaged one: exit 13.'
            printf '%s\t%s\n' 'verify' 'Read all of a backup, and say whether it is what was made; if not: exit 13.'
            printf '%s\t%s\n' 'prune' 'Remove this home\'s backups that no rule keeps; the newest whole one always stays.'
        case 'help store'
            printf '%s\t%s\n' 'check' 'Check that the store is whole and that what is derived from it agrees with it.'
            printf '%s\t%s\n' 'path' 'Print where the store\'s database is, whether or not there is one.'
            printf '%s\t%s\n' 'vacuum' 'Write the store anew, without the room that deleted rows left in it. Nobody else may use it meanwhile.'
            printf '%s\t%s\n' 'migrate' 'Bring the store to this fedctl\'s schema, and say which it had. Any command does it when it opens the store.'
            printf '%s\t%s\n' 'sql' 'Ask the database itself, read only, with a hub running or without. The tables may change with any version.'
        case 'help config'
            printf '%s\t%s\n' 'path' 'Print where the settings are kept, whether or not there are any.'
            printf '%s\t%s\n' 'list' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'ls' 'List the settings as they are in force here.'
            printf '%s\t%s\n' 'get' 'Print one setting\'s value.'
            printf '%s\t%s\n' 'set' 'Keep a setting in the home\'s config.toml (or the file named by --config).'
            printf '%s\t%s\n' 'unset' 'Take a setting out of the file that `config set` writes; what it is from then on is the answer.'
    end
end

function __fedctl_flags --argument-names path # its flags with a = for each value, each with its line
    switch $path
        case ''
            printf '%s\t%s\n' '--home=' 'The home: the store, the keys, config.toml (FEDCTL_HOME).'
            printf '%s\t%s\n' '--hub=' 'Whom to ask (FEDCTL_HUB); ws://, wss:// or unix:PATH.'
            printf '%s\t%s\n' '--tenant=' 'Whose memory (FEDCTL_TENANT); by default `default`.'
            printf '%s\t%s\n' '--token-file=' 'The token (FEDCTL_TOKEN_FILE, FEDCTL_TOKEN).'
            printf '%s\t%s\n' '--tls-ca=' 'Trust these authorities with wss:// (FEDCTL_TLS_CA).'
            printf '%s\t%s\n' '--client-cert=' 'Our certificate (FEDCTL_CLIENT_CERT).'
            printf '%s\t%s\n' '--client-key=' 'Its key (FEDCTL_CLIENT_KEY).'
            printf '%s\t%s\n' '--config=' 'More settings, before the home\'s own (FEDCTL_CONFIG).'
            printf '%s\t%s\n' '--format=' 'The answer\'s form (FEDCTL_FORMAT).'
            printf '%s\t%s\n' '--json' 'Short for --format json.'
            printf '%s\t%s\n' '--jsonl' 'Short for --format jsonl.'
            printf '%s\t%s\n' '--ids' 'Short for --format ids.'
            printf '%s\t%s\n' '--fields=' 'Only these fields; `--fields help` lists them.'
            printf '%s\t%s\n' '--timeout=' 'Limit of one request, 30s by default (FEDCTL_TIMEOUT).'
            printf '%s\t%s\n' '--color=' 'Colour (NO_COLOR, FORCE_COLOR).'
            printf '%s\t%s\n' '-q' 'Errors only: no notes, and silence for success.'
            printf '%s\t%s\n' '--quiet' 'Errors only: no notes, and silence for success.'
            printf '%s\t%s\n' '-v' 'Say more on stderr.'
            printf '%s\t%s\n' '--verbose' 'Say more on stderr.'
            printf '%s\t%s\n' '--debug-level=' 'How much is logged (DEBUG_LEVEL).'
            printf '%s\t%s\n' '--debug-format=' 'Form of logs (DEBUG_FORMAT).'
            printf '%s\t%s\n' '--debug-category=' 'Only this category; repeatable.'
            printf '%s\t%s\n' '--debug-agent=' 'Only this agent; repeatable.'
            printf '%s\t%s\n' '--debug-output=' 'Where logs go (DEBUG_OUTPUT).'
            printf '%s\t%s\n' '--debug-file=' 'The log file (DEBUG_OUTPUT_FILE).'
            printf '%s\t%s\n' '-V' 'Print the version; with --json, of everything.'
            printf '%s\t%s\n' '--version' 'Print the version; with --json, of everything.'
            printf '%s\t%s\n' '-h' 'Show this help.'
            printf '%s\t%s\n' '--help' 'Show this help.'
        case 'doctor'
            printf '%s\t%s\n' '--fix' 'Mend what can safely be mended; with -n only say what.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'top'
            printf '%s\t%s\n' '--every=' 'How often it looks. [default: 2s]'
        case 'demo'
            printf '%s\t%s\n' '--seconds=' 'How long the agents work.'
            printf '%s\t%s\n' '--path=' 'Whose Python files they read. [default: the interpreter\'s own library]'
            printf '%s\t%s\n' '--keep' 'Keep the home it made, and say where it is.'
        case 'memory store'
            printf '%s\t%s\n' '--task=' 'What was to be done; - or @FILE.'
            printf '%s\t%s\n' '--input=' 'What it started from; - or @FILE.'
            printf '%s\t%s\n' '--output=' 'What came of it; - or @FILE.'
            printf '%s\t%s\n' '--reward=' 'Its worth, 0 to 1.'
            printf '%s\t%s\n' '--critique=' 'What to do better; - or @FILE.'
            printf '%s\t%s\n' '--success=' 'Whether it worked. [default: reward >= 0.7]'
            printf '%s\t%s\n' '--session=' 'The session it is part of.'
            printf '%s\t%s\n' '--agent=' 'The agent that did it.'
            printf '%s\t%s\n' '--tokens-used=' 'Tokens it took.'
            printf '%s\t%s\n' '--latency-ms=' 'Milliseconds it took.'
            printf '%s\t%s\n' '--meta=' 'Metadata: a number, true, false or null, else text. Repeatable.'
            printf '%s\t%s\n' '--id=' 'Its id. [default: a new UUIDv7]'
            printf '%s\t%s\n' '--batch' 'Read episodes from stdin, one JSON object a line; answer a line for each. Blank lines are skipped.'
        case 'memory query'
            printf '%s\t%s\n' '-k=' 'At most N hits. [default: 10]'
            printf '%s\t%s\n' '--mode=' 'By meaning, by words, or both. [default: hybrid]'
            printf '%s\t%s\n' '--min-reward=' 'Only rewards of at least R.'
            printf '%s\t%s\n' '--since=' 'Only from then on: 7d, 2026-01-31, RFC 3339.'
            printf '%s\t%s\n' '--until=' 'Only before then.'
            printf '%s\t%s\n' '--agent=' 'Only this agent\'s.'
            printf '%s\t%s\n' '--session=' 'Only this session\'s.'
            printf '%s\t%s\n' '--task=' 'Only this task, word for word.'
            printf '%s\t%s\n' '--where=' 'Only where the metadata say so; also !=, <, <=, >, >=. Repeatable.'
            printf '%s\t%s\n' '--reward-weight=' 'How much a reward moves a hit; 0: not at all. [default: 0.1]'
            printf '%s\t%s\n' '--fresh' 'Wait until every episode is embedded.'
            printf '%s\t%s\n' '--explain' 'Show what made each hit\'s score.'
        case 'memory list'
            printf '%s\t%s\n' '--min-reward=' 'Only rewards of at least R.'
            printf '%s\t%s\n' '--since=' 'Only from then on: 7d, 2026-01-31, RFC 3339.'
            printf '%s\t%s\n' '--until=' 'Only before then.'
            printf '%s\t%s\n' '--agent=' 'Only this agent\'s.'
            printf '%s\t%s\n' '--session=' 'Only this session\'s.'
            printf '%s\t%s\n' '--task=' 'Only this task, word for word.'
            printf '%s\t%s\n' '--where=' 'Only where the metadata say so; also !=, <, <=, >, >=. Repeatable.'
            printf '%s\t%s\n' '--pinned' 'Only those that no policy removes.'
            printf '%s\t%s\n' '--limit=' 'At most N. [default: 50 on a terminal, else all]'
        case 'memory delete'
            printf '%s\t%s\n' '--min-reward=' 'Only rewards of at least R.'
            printf '%s\t%s\n' '--since=' 'Only from then on: 7d, 2026-01-31, RFC 3339.'
            printf '%s\t%s\n' '--until=' 'Only before then.'
            printf '%s\t%s\n' '--agent=' 'Only this agent\'s.'
            printf '%s\t%s\n' '--session=' 'Only this session\'s.'
            printf '%s\t%s\n' '--task=' 'Only this task, word for word.'
            printf '%s\t%s\n' '--where=' 'Only where the metadata say so; also !=, <, <=, >, >=. Repeatable.'
            printf '%s\t%s\n' '--hard' 'Erase: afterwards no byte of them is in the home. Also what was deleted before.'
            printf '%s\t%s\n' '-y' 'Do not ask.'
            printf '%s\t%s\n' '--yes' 'Do not ask.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'memory import'
            printf '%s\t%s\n' '--from=' 'What the file is. [default: by its name, stdin: jsonl]'
            printf '%s\t%s\n' '--table=' 'The table of a SQLite file.'
            printf '%s\t%s\n' '--on-conflict=' 'An id that another episode has: pass it over, or refuse. [default: error]'
            printf '%s\t%s\n' '--rejects=' 'Write refused lines there, each with its error.'
            printf '%s\t%s\n' '--no-embed' 'Store only: a hub embeds in the background, else the next queries do.'
        case 'memory export'
            printf '%s\t%s\n' '--with-vectors' 'With the embeddings.'
        case 'memory reindex'
            printf '%s\t%s\n' '--model=' 'Embed with the ONNX model in this folder from now on.'
        case 'hub start'
            printf '%s\t%s\n' '--host=' 'The address to listen on. [default: 127.0.0.1]'
            printf '%s\t%s\n' '--port=' 'For agents; 0: any. [default: 8443]'
            printf '%s\t%s\n' '--http-port=' 'For the monitor, /health, ... [default: 8444]'
            printf '%s\t%s\n' '--max-agents=' 'How many agents at once. [default: 1000]'
            printf '%s\t%s\n' '--tls-cert=' 'The certificate, in PEM.'
            printf '%s\t%s\n' '--tls-key=' 'Its key, in PEM.'
            printf '%s\t%s\n' '--tls-client-ca=' 'Let in only clients with a certificate of these.'
            printf '%s\t%s\n' '--max-connections=' 'Over the network, in all. [default: 10000]'
            printf '%s\t%s\n' '--max-strangers=' 'Of one address, before they show a token. [default: 1024]'
            printf '%s\t%s\n' '--allow-host=' 'Another name that clients call it by. Repeatable.'
            printf '%s\t%s\n' '--allow-origin=' 'A site whose pages may connect. Repeatable.'
            printf '%s\t%s\n' '--retention-every=' 'Carry out the tenants\' retention policies that often: 1s or more.'
            printf '%s\t%s\n' '--insecure' 'Listen beyond this machine without TLS.'
            printf '%s\t%s\n' '--detach' 'Return as soon as it is ready; it goes on.'
        case 'hub status'
            printf '%s\t%s\n' '--wait=' 'Wait that long until it is ready.'
        case 'hub cert'
            printf '%s\t%s\n' '--out=' 'Where to. [default: tls/ in the home]'
            printf '%s\t%s\n' '--name=' 'Another name or address of the hub. Repeatable.'
            printf '%s\t%s\n' '--ttl=' 'How long they hold; the authority ten times as long. [default: 365d]'
            printf '%s\t%s\n' '--renew' 'Make the two pairs anew, of the authority that is there, to add a --name or time.'
        case 'hub stats'
            printf '%s\t%s\n' '--watch=' 'Go on, a line every so long: 100ms or more.'
        case 'hub events'
            printf '%s\t%s\n' '--follow' 'Go on with what comes, over the end of a hub and its restart.'
            printf '%s\t%s\n' '--since=' 'From then on: 7d, 2026-01-31, RFC 3339, or a cursor number: after the event of that `seq`. [default: all; with --follow: now]'
            printf '%s\t%s\n' '--type=' 'Only these, or by a first word all of its kinds (pool: those of items, too). Repeatable: episode_stored, episode_deleted, episode_pinned, episodes_pruned, agent_status, agent_synced, agent_note, agent_error, token_revoked, key_rotated, tenant_changed, tenant_erased, worker_status, items_pushed, items_claimed, items_done, items_released, items_poisoned, items_purged, pool_paused, pool_resumed, retention_set, retention_pruned.'
            printf '%s\t%s\n' '--all-tenants' 'Of every tenant; with a token, an operator\'s.'
        case 'agent spawn'
            printf '%s\t%s\n' '--id=' 'Its name. [default: a new one]'
            printf '%s\t%s\n' '--type=' 'Its kind. [default: agent]'
            printf '%s\t%s\n' '--lifetime=' 'How long it lives, 5s to 15m. [default: 5m]'
            printf '%s\t%s\n' '--sync-interval=' 'How often it syncs. [default: 5s]'
            printf '%s\t%s\n' '--pull=' 'What to bring along. [default: the tenant\'s newest episodes]'
            printf '%s\t%s\n' '--pull-limit=' 'How many episodes at most. [default: 100]'
            printf '%s\t%s\n' '--embed=' 'Who turns its texts into vectors. [default: hub]'
            printf '%s\t%s\n' '--undelivered=' 'Where to keep episodes that could not be delivered at the end, behind what is there: fedctl memory import FILE delivers them. [default: they are lost]'
        case 'agent list'
            printf '%s\t%s\n' '--status=' 'Only those that are spawning, initializing, ready, working, idle, shutting_down, dead. Repeatable: any of them.'
            printf '%s\t%s\n' '--watch' 'Go on with each that comes, changes or syncs; a terminal shows a table.'
        case 'agent note'
            printf '%s\t%s\n' '--kind=' 'What kind of thing it is.'
            printf '%s\t%s\n' '--data=' 'More of it, as JSON; - or @FILE.'
            printf '%s\t%s\n' '--agent=' 'Whose note it is. [default: FEDCTL_AGENT_ID, which CMD of agent spawn has]'
        case 'agent timeline'
            printf '%s\t%s\n' '--limit=' 'At most the last N moments. [default: 1000]'
        case 'worker register'
            printf '%s\t%s\n' '--pool=' 'The pool it works for.'
            printf '%s\t%s\n' '--capability=' 'What it can do. Repeatable.'
            printf '%s\t%s\n' '--heartbeat-interval=' 'How often it says that it lives; silent for twice as long, it is stale. [default: 30s]'
            printf '%s\t%s\n' '--meta=' 'Metadata: a number, true, false or null, else text. Repeatable.'
        case 'worker heartbeat'
            printf '%s\t%s\n' '--every=' 'Go on until SIGTERM or Ctrl-C, one every so long.'
            printf '%s\t%s\n' '--meta=' 'Metadata: a number, true, false or null, else text. Repeatable.'
            printf '%s\t%s\n' '--extend-leases' 'Let what it holds be its own for another minute (with --every for three beats, if that is longer).'
        case 'worker list'
            printf '%s\t%s\n' '--status=' 'Only those of this status. Repeatable: any of them.'
            printf '%s\t%s\n' '--stale=' 'Only those silent for longer; auto: than twice their own interval. Terminated ones are never stale.'
            printf '%s\t%s\n' '--capability=' 'Only those that can do this.'
            printf '%s\t%s\n' '--pool=' 'Only this pool\'s.'
            printf '%s\t%s\n' '--limit=' 'At most N. [default: 50 on a terminal, else all]'
        case 'pool push'
            printf '%s\t%s\n' '--max-retries=' 'Poisoned when it failed after so many claims; 0 is as 1. [default: 3]'
            printf '%s\t%s\n' '--priority=' 'Larger is claimed first; may be negative. [default: 0]'
            printf '%s\t%s\n' '--delay=' 'Nobody can claim it before that time is over.'
            printf '%s\t%s\n' '--at=' 'Nobody can claim it before then: +3h, a time.'
            printf '%s\t%s\n' '--key=' 'While an unfinished item has this key there is no other.'
            printf '%s\t%s\n' '--requires=' 'Only a worker with this capability may claim it. Repeatable.'
            printf '%s\t%s\n' '--batch' 'Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.'
        case 'pool claim'
            printf '%s\t%s\n' '--worker=' 'Who claims; it need not be registered. [default: FEDCTL_WORKER]'
            printf '%s\t%s\n' '--count=' 'At most N items. [default: 1]'
            printf '%s\t%s\n' '--lease=' 'How long it is one\'s own. [default: 60s]'
            printf '%s\t%s\n' '--wait=' 'If there is nothing, wait that long for something; for a hub that goes away meanwhile, too.'
        case 'pool complete'
            printf '%s\t%s\n' '--lease-id=' 'The lease that it was claimed by. [default: FEDCTL_LEASE_ID]'
            printf '%s\t%s\n' '--result=' 'What came of it: JSON, - for stdin, @FILE. [default: null]'
            printf '%s\t%s\n' '--then-push==' 'Push an item in the same commit. Repeatable.'
            printf '%s\t%s\n' '--episode=' 'Store an episode in the same commit: a line of memory store --batch.'
            printf '%s\t%s\n' '--batch' 'Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.'
        case 'pool fail'
            printf '%s\t%s\n' '--lease-id=' 'The lease that it was claimed by. [default: FEDCTL_LEASE_ID]'
            printf '%s\t%s\n' '--error=' 'What went wrong; - or @FILE. Beyond 64 KiB it is cut.'
            printf '%s\t%s\n' '--retry-in=' 'When it can be claimed again. [default: now]'
            printf '%s\t%s\n' '--batch' 'Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.'
        case 'pool extend'
            printf '%s\t%s\n' '--lease-id=' 'The lease that it was claimed by. [default: FEDCTL_LEASE_ID]'
            printf '%s\t%s\n' '--lease=' 'How long it is one\'s own. [default: 60s]'
            printf '%s\t%s\n' '--batch' 'Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.'
        case 'pool release'
            printf '%s\t%s\n' '--lease-id=' 'The lease that it was claimed by. [default: FEDCTL_LEASE_ID]'
            printf '%s\t%s\n' '--worker=' 'All that this worker holds.'
            printf '%s\t%s\n' '--batch' 'Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.'
        case 'pool work'
            printf '%s\t%s\n' '-j=' 'So many at once. [default: 1]'
            printf '%s\t%s\n' '--jobs=' 'So many at once. [default: 1]'
            printf '%s\t%s\n' '--worker=' 'Who works. A name that is at work already begins anew, and loses what it holds. [default: a new one]'
            printf '%s\t%s\n' '--capability=' 'What it can do: items that require more are left alone. Repeatable.'
            printf '%s\t%s\n' '--lease=' 'How long an item is ours; it is renewed. [default: 60s]'
            printf '%s\t%s\n' '--until-empty' 'End when nothing is pending, delayed, or ours. What is delayed is waited for, and what nobody here can do, what gives itself back with 75 each time, and a paused pool, too: timeout(1) sets an end to that.'
            printf '%s\t%s\n' '--once' 'Take one item, if there is one; exit 6 if not.'
            printf '%s\t%s\n' '--max-items=' 'End after N attempts.'
            printf '%s\t%s\n' '--time-limit=' 'How long CMD may take an item.'
            printf '%s\t%s\n' '--grace=' 'From TERM to KILL; to end after SIGTERM. [default: 10s]'
        case 'pool list'
            printf '%s\t%s\n' '--limit=' 'At most N. [default: 50 on a terminal, else all]'
        case 'pool items'
            printf '%s\t%s\n' '--status=' 'Only those of this status.'
            printf '%s\t%s\n' '--limit=' 'At most N. [default: 50 on a terminal, else all]'
        case 'pool wait'
            printf '%s\t%s\n' '--timeout=' 'Wait no longer. [default: as long as it takes]'
        case 'pool retry'
            printf '%s\t%s\n' '--poisoned=' 'All poisoned items of this pool.'
        case 'pool purge'
            printf '%s\t%s\n' '--status=' 'Only those. [default: all that nobody holds, pending ones too]'
            printf '%s\t%s\n' '-y' 'Do not ask.'
            printf '%s\t%s\n' '--yes' 'Do not ask.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'retention set'
            printf '%s\t%s\n' '--max-age=' 'Episodes that are older go.'
            printf '%s\t%s\n' '--min-reward=' 'Episodes with a lower reward go; those without one stay.'
            printf '%s\t%s\n' '--max-episodes=' 'Of more than N episodes the oldest go, by when they were made.'
            printf '%s\t%s\n' '--keep-last=' 'The N newest episodes stay, by when they were made.'
            printf '%s\t%s\n' '--keep-success' 'Episodes that succeeded stay.'
            printf '%s\t%s\n' '--no-keep-success' 'Episodes that succeeded stay.'
            printf '%s\t%s\n' '--keep-where=' 'Episodes whose metadata say so stay; also !=, <, <=, >, >=. Repeatable: any of them keeps.'
            printf '%s\t%s\n' '--items-max-age=' 'Items done or poisoned longer ago go.'
            printf '%s\t%s\n' '--events-max-age=' 'Older events go, but for those that tell of living episodes.'
            printf '%s\t%s\n' '--agents-max-age=' 'Dead agents whose lifetime ended longer ago go, with what the log has of them.'
        case 'retention prune'
            printf '%s\t%s\n' '--max-delete=' 'Remove nothing if more would go, of episodes, items, events or agents. [default: 20%, where more than 100 rows would go]'
            printf '%s\t%s\n' '--all-tenants' 'Of every tenant that has a policy; with a token, an operator\'s.'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
            printf '%s\t%s\n' '--max-time=' 'End after that time; what was done stays done.'
            printf '%s\t%s\n' '--ping-url-file=' 'A file with the URL of a monitor (healthchecks.io\'s way): it hears /start, the end, or /fail.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'tenant set'
            printf '%s\t%s\n' '--max-episodes=' 'How many episodes.'
            printf '%s\t%s\n' '--max-bytes=' 'Text of them: 500MB, 2GiB.'
            printf '%s\t%s\n' '--rate=' 'What it may ask of a hub in a second: requests, and in batches each episode or item.'
        case 'tenant erase'
            printf '%s\t%s\n' '-y' 'Do not ask.'
            printf '%s\t%s\n' '--yes' 'Do not ask.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'token issue'
            printf '%s\t%s\n' '--agent=' 'The one agent it is for.'
            printf '%s\t%s\n' '--role=' 'What its bearer may do. [default: agent]'
            printf '%s\t%s\n' '--ttl=' 'How long it holds, at most 90d. [default: 1h]'
            printf '%s\t%s\n' '--out=' 'Write it there, for its owner alone, not to stdout; in an old one\'s place.'
        case 'token rotate-key'
            printf '%s\t%s\n' '--grace=' 'How long the old keys still verify; 0s: not at all, sessions by them end. [default: until the last token ends]'
        case 'backup create'
            printf '%s\t%s\n' '--with-keys' 'The keys and the settings too.'
            printf '%s\t%s\n' '--passphrase-file=' 'A file with the passphrase that seals it.'
            printf '%s\t%s\n' '--prune' 'Then remove those that no --keep rule keeps.'
            printf '%s\t%s\n' '--keep-last=' 'Keep the last N. -1: of all.'
            printf '%s\t%s\n' '--keep-hourly=' 'Keep the newest of each of the last N hours that have one. -1: of all.'
            printf '%s\t%s\n' '--keep-daily=' 'Likewise of days. -1: of all.'
            printf '%s\t%s\n' '--keep-weekly=' 'Likewise of weeks. -1: of all.'
            printf '%s\t%s\n' '--keep-monthly=' 'Likewise of months. -1: of all.'
            printf '%s\t%s\n' '--keep-yearly=' 'Likewise of years. -1: of all.'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
            printf '%s\t%s\n' '--max-time=' 'End after that time; what is not done begins anew.'
            printf '%s\t%s\n' '--ping-url-file=' 'A file with the URL of a monitor (healthchecks.io\'s way): it hears /start, the end, or /fail.'
        case 'backup verify'
            printf '%s\t%s\n' '--restore-test' 'Restore it beside itself, and compare what comes out.'
            printf '%s\t%s\n' '--passphrase-file=' 'A file with the passphrase that seals it.'
            printf '%s\t%s\n' '--signed-by=' 'Trust this key, instead of the home\'s own.'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
            printf '%s\t%s\n' '--max-time=' 'End after that time; what is not done begins anew.'
            printf '%s\t%s\n' '--ping-url-file=' 'A file with the URL of a monitor (healthchecks.io\'s way): it hears /start, the end, or /fail.'
        case 'backup prune'
            printf '%s\t%s\n' '--keep-last=' 'Keep the last N. -1: of all.'
            printf '%s\t%s\n' '--keep-hourly=' 'Keep the newest of each of the last N hours that have one. -1: of all.'
            printf '%s\t%s\n' '--keep-daily=' 'Likewise of days. -1: of all.'
            printf '%s\t%s\n' '--keep-weekly=' 'Likewise of weeks. -1: of all.'
            printf '%s\t%s\n' '--keep-monthly=' 'Likewise of months. -1: of all.'
            printf '%s\t%s\n' '--keep-yearly=' 'Likewise of years. -1: of all.'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
            printf '%s\t%s\n' '--max-time=' 'End after that time; what was done stays done.'
            printf '%s\t%s\n' '--ping-url-file=' 'A file with the URL of a monitor (healthchecks.io\'s way): it hears /start, the end, or /fail.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'restore'
            printf '%s\t%s\n' '--to=' 'Make a new home in DIR, which is not there or empty.'
            printf '%s\t%s\n' '--overwrite' 'Replace the store that the home has.'
            printf '%s\t%s\n' '--passphrase-file=' 'The passphrase the backup was sealed with.'
            printf '%s\t%s\n' '--signed-by=' 'Take it only if the key of this fingerprint signed it.'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for whoever uses the store. [default: do not wait]'
            printf '%s\t%s\n' '-y' 'Do not ask.'
            printf '%s\t%s\n' '--yes' 'Do not ask.'
            printf '%s\t%s\n' '-n' 'Say what would go, and change nothing.'
            printf '%s\t%s\n' '--dry-run' 'Say what would go, and change nothing.'
        case 'store check'
            printf '%s\t%s\n' '--full' 'Every page of the database and every vector.'
        case 'store vacuum'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
        case 'store migrate'
            printf '%s\t%s\n' '--lock-wait=' 'Wait that long for another run of the same to end. [default: do not wait]'
        case 'store sql'
            printf '%s\t%s\n' '--limit=' 'At most N. [default: 50 on a terminal, else all]'
        case 'config list'
            printf '%s\t%s\n' '--origin' 'Say where each value comes from.'
        case 'completion'
            printf '%s\t%s\n' '--install' 'Put it where the shell looks; say what is left to do.'
    end
end

function __fedctl_kind --argument-names path what # what the flag or the position takes
    switch "$path $what"
        case 'init --fields'
            printf '%s\n' list +home +store +created
        case 'status --fields'
            printf '%s\n' list +home +store +hub +tenant +episodes +tenants +pending_embeddings +agents +work +backup +retention +findings +next +gone
        case 'doctor --fields'
            printf '%s\n' list +ok +warnings +failures +fixed +checks
        case 'top --fields'
            printf '%s\n' list +at +tenant_id +hub +memory +agents +workers +pools +trouble
        case 'demo --fields'
            printf '%s\n' list +ok +criteria +seconds +files +home
        case 'memory store --fields'
            printf '%s\n' list +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq +deleted
        case 'memory query --fields'
            printf '%s\n' list +rank +score +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq +match
        case 'memory get --fields' 'memory list --fields' 'memory pin --fields' 'memory unpin --fields'
            printf '%s\n' list +id +tenant_id +agent_id +session_id +task +input +output +reward +success +critique +tokens_used +latency_ms +metadata +pinned +created_at +seq
        case 'memory delete --fields'
            printf '%s\n' list +deleted +ids +missing +dry_run +complete +backups +notes
        case 'memory import --fields'
            printf '%s\n' list +lines +imported +existing +skipped +deleted +rejected +pending_embeddings
        case 'memory export --fields'
            printf '%s\n' list +path +episodes +size_bytes
        case 'memory stats --fields'
            printf '%s\n' list +tenant_id +episodes +deleted +tenants +pending_embeddings +cut_episodes +index +store_bytes +disk_free_bytes +read_only
        case 'memory reindex --fields'
            printf '%s\n' list +embedded +remaining +model
        case 'hub start --fields' 'hub stop --fields' 'hub status --fields'
            printf '%s\n' list +pid +version +url +http_url +socket +home +started_at +ready
        case 'hub cert --fields'
            printf '%s\n' list +ca +ca_key +cert +key +client_cert +client_key +names +expires_at +ca_expires_at
        case 'hub stats --fields'
            printf '%s\n' list +connected_agents +connections +episodes +tenants +pending_embeddings +uptime_s +latencies +operations +errors +commits +acked_episodes +rss_bytes +store_bytes +wal_bytes +index_age_s +pools +items +queued +in_flight +refusals +disk_free_bytes +read_only
        case 'hub events --fields'
            printf '%s\n' list +seq +tenant_id +kind +subject +detail +at
        case 'agent spawn --fields'
            printf '%s\n' list +agent_id +hub
        case 'agent list --fields' 'agent show --fields' 'agent stop --fields'
            printf '%s\n' list +id +tenant_id +type +status +spawned_at +expires_at +last_sync_at +host +pid +episodes_stored
        case 'agent note --fields'
            printf '%s\n' list +id +tenant_id +agent_id +kind +text +data +at
        case 'agent timeline --fields'
            printf '%s\n' list +id +agent +lived_ms +phases +moments +moments_total +counts +figures
        case 'worker register --fields' 'worker status --fields'
            printf '%s\n' list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale +released
        case 'worker heartbeat --fields'
            printf '%s\n' list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale +extended
        case 'worker list --fields' 'worker show --fields' 'worker reap --fields'
            printf '%s\n' list +worker_id +tenant_id +status +host +pid +capabilities +pool_id +started_at +last_heartbeat +heartbeat_interval_s +current_task_id +metadata +incarnation +stale
        case 'pool push --fields'
            printf '%s\n' list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +existing
        case 'pool claim --fields' 'pool fail --fields' 'pool extend --fields' 'pool release --fields' 'pool items --fields' 'pool retry --fields'
            printf '%s\n' list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires
        case 'pool complete --fields'
            printf '%s\n' list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +existing +pushed +episode
        case 'pool work --fields'
            printf '%s\n' list +pool +worker_id +reason +exit +done +failed +poisoned +released +lost +duration_ms +id +outcome +attempt +retry_in_ms +error
        case 'pool list --fields' 'pool show --fields' 'pool pause --fields' 'pool resume --fields'
            printf '%s\n' list +name +paused +pending +delayed +claimed +done +poisoned +oldest_pending_s
        case 'pool size --fields'
            printf '%s\n' list +pool +size +pending +delayed
        case 'pool item --fields'
            printf '%s\n' list +id +pool +status +data +priority +attempts +max_retries +claimed_by +claimed_at +lease_id +lease_expires_at +created_at +available_at +finished_at +result +error +key +requires +history
        case 'pool wait --fields'
            printf '%s\n' list +open +done +poisoned +poisoned_ids
        case 'pool purge --fields'
            printf '%s\n' list +pool +deleted +dry_run
        case 'retention set --fields' 'retention show --fields'
            printf '%s\n' list +tenant_id +policy
        case 'retention prune --fields'
            printf '%s\n' list +tenant_id +policy +dry_run +examined +removed +kept +reasons +bytes_freed +items_removed +events_removed +agents_removed +more +error
        case 'retention explain --fields'
            printf '%s\n' list +id +verdict +removed_by +kept_by +goes_at +place +examined
        case 'tenant list --fields' 'tenant show --fields' 'tenant set --fields'
            printf '%s\n' list +id +created_at +episodes +size_bytes +max_episodes +max_bytes +rate_per_s
        case 'tenant erase --fields'
            printf '%s\n' list +tenant_id +dry_run +episodes +items +agents +workers +tokens +vectors +complete +backups +notes
        case 'token issue --fields' 'token list --fields' 'token revoke --fields'
            printf '%s\n' list +token +path +id +tenant_id +agent_id +role +issued_at +expires_at +revoked_at
        case 'token rotate-key --fields'
            printf '%s\n' list +key_id +old_keys_until +removed_keys
        case 'backup create --fields'
            printf '%s\n' list +id +created_at +path +size_bytes +episodes +items +sha256 +schema_version +model +verified_at +error +sealed +own +signed_by +parts +tenants +epoch +seq +fedctl_version +restore_tested_at +pruned
        case 'backup list --fields' 'backup show --fields' 'backup verify --fields'
            printf '%s\n' list +id +created_at +path +size_bytes +episodes +items +sha256 +schema_version +model +verified_at +error +sealed +own +signed_by +parts +tenants +epoch +seq +fedctl_version +restore_tested_at
        case 'backup prune --fields'
            printf '%s\n' list +policy +dry_run +examined +removed +kept +reasons +bytes_freed +backups +damaged
        case 'restore --fields'
            printf '%s\n' list +id +created_at +path +episodes +items +erased_again +epoch +notes
        case 'store check --fields'
            printf '%s\n' list +checks +findings +episodes +disk_free_bytes +read_only
        case 'store path --fields' 'config path --fields'
            printf '%s\n' list +path +exists
        case 'store vacuum --fields'
            printf '%s\n' list +path +before_bytes +after_bytes +freed_bytes
        case 'store migrate --fields'
            printf '%s\n' list +path +schema_from +schema_to +migrated
        case 'config list --fields' 'config get --fields' 'config set --fields' 'config unset --fields'
            printf '%s\n' list +key +value +origin
        case 'schema --fields'
            printf '%s\n' list +command +form +title +schema
        case 'memory get *' 'memory delete *' 'memory pin *' 'memory unpin *' 'retention explain 0'
            printf '%s\n' @episode
        case 'agent spawn *' 'pool work *'
            printf '%s\n' command
        case 'pool wait *'
            printf '%s\n' @pool @item
        case 'pool retry *'
            printf '%s\n' @poisoned
        case 'man *'
            printf '%s\n' +fedctl +init +status +doctor +top +demo +memory +hub +agent +worker +pool +retention +tenant +token +backup +restore +store +config +schema +completion +man +help +config.5 +exit-codes
        case 'memory import 0' 'memory export 0' 'token issue --out'
            printf '%s\n' file
        case 'agent show 0' 'agent stop 0' 'agent timeline 0'
            printf '%s\n' @agent
        case 'worker register 0' 'worker heartbeat 0' 'worker show 0' 'worker status 0'
            printf '%s\n' @worker
        case 'pool push 0' 'pool claim 0' 'pool work 0' 'pool show 0' 'pool size 0' 'pool items 0' 'pool purge 0' 'pool pause 0' 'pool resume 0'
            printf '%s\n' @pool
        case 'pool complete 0' 'pool fail 0' 'pool extend 0' 'pool release 0'
            printf '%s\n' @claimed
        case 'pool item 0'
            printf '%s\n' @item
        case 'tenant show 0' 'tenant set 0' 'tenant erase 0'
            printf '%s\n' @tenant
        case 'token revoke 0'
            printf '%s\n' @token
        case 'backup create 0' 'backup list 0' 'backup prune 0' 'hub cert --out'
            printf '%s\n' dir
        case 'backup show 0' 'backup verify 0' 'restore 0'
            printf '%s\n' +latest @backup file
        case 'config get 0' 'config set 0' 'config unset 0'
            printf '%s\n' @setting
        case 'completion 0'
            printf '%s\n' +bash +zsh +fish
        case 'agent list --status'
            printf '%s\n' +spawning +initializing +ready +working +idle +shutting_down +dead
        case 'worker list --status' 'worker status 1'
            printf '%s\n' +active +terminating +terminated +lost
        case 'pool items --status'
            printf '%s\n' +pending +claimed +done +poisoned
        case 'pool purge --status'
            printf '%s\n' +done +poisoned
        case '* --home' '* --path' '* --model' '* --to'
            printf '%s\n' dir
        case '* --hub'
            printf '%s\n' +auto +off
        case '* --tenant'
            printf '%s\n' @tenant
        case '* --token-file' '* --tls-ca' '* --client-cert' '* --client-key' '* --config' '* --debug-file' '* --rejects' '* --tls-cert' '* --tls-key' '* --tls-client-ca' '* --undelivered' '* --ping-url-file' '* --passphrase-file'
            printf '%s\n' file
        case '* --format'
            printf '%s\n' +table +json +jsonl +tsv +ids
        case '* --color'
            printf '%s\n' +auto +always +never
        case '* --debug-level'
            printf '%s\n' +silent +basic +detailed +verbose +trace
        case '* --debug-format'
            printf '%s\n' +human +json +compact
        case '* --debug-category'
            printf '%s\n' +agent +command +commit +embedding +error +event +hub +index +item +link +memory +pool +retention +session +store +sync +tenant +token +work +worker
        case '* --debug-agent' '* --agent'
            printf '%s\n' @agent
        case '* --debug-output'
            printf '%s\n' +console +file +both
        case '* --success'
            printf '%s\n' +true +false
        case '* --mode'
            printf '%s\n' +hybrid +semantic +keyword
        case '* --from'
            printf '%s\n' +jsonl +json +csv +tsv +sqlite
        case '* --on-conflict'
            printf '%s\n' +skip +error
        case '* --embed'
            printf '%s\n' +hub +local
        case '* --kind'
            printf '%s\n' +task +step +decision +message
        case '* --pool' '* --then-push' '* --poisoned'
            printf '%s\n' @pool
        case '* --stale'
            printf '%s\n' +auto
        case '* --worker'
            printf '%s\n' @worker
        case '* --max-age' '* --min-reward' '* --max-episodes' '* --keep-last' '* --keep-where' '* --items-max-age' '* --events-max-age' '* --agents-max-age' '* --max-bytes' '* --rate'
            printf '%s\n' +none
        case '* --role'
            printf '%s\n' +agent +admin +operator
    end
end

function __fedctl_ask
    type -q $__fedctl_whom[1]
    and $__fedctl_whom --timeout 2s -q $argv --ids </dev/null 2>/dev/null
end

function __fedctl_items
    for pool in (__fedctl_ask pool list --limit 100)[1..5]
        __fedctl_ask pool items $pool --limit 100 $argv
    end
end

function __fedctl_known --argument-names what
    switch $what
        case agent
            __fedctl_ask agent list
        case backup
            __fedctl_ask backup list
        case episode
            __fedctl_ask memory list --limit 100
        case pool
            __fedctl_ask pool list --limit 100
        case setting
            __fedctl_ask config list
        case tenant
            __fedctl_ask tenant list
        case token
            __fedctl_ask token list
        case worker
            __fedctl_ask worker list --limit 100
        case item
            __fedctl_items
        case claimed
            __fedctl_items --status claimed
        case poisoned
            __fedctl_items --status poisoned
    end
end

function __fedctl_kept --argument-names flag value # the flag, if it says whom to ask
    switch $flag
        case --home --hub --tenant --token-file --tls-ca --client-cert --client-key --config
            printf '%s\n' $flag (string replace -r '^~/' "$HOME/" -- $value)
    end
end

function __fedctl_complete
    set -l words
    for word in (commandline -opc)
        set -l plain (string unescape -- $word)
        or set plain $word
        set -a words "$plain"
    end
    set -g __fedctl_whom (string replace -r '^~/' "$HOME/" -- $words[1])
    set -e words[1]
    set -l cur (commandline -ct)
    set -l path ''
    set -l flag ''
    set -l more 0
    set -l both 0
    set -l position 0
    set -l rest
    set -l ended 0
    set -l flags (__fedctl_flags '' | string replace -r '\t.*' '')
    set -l globals $flags
    set -l commands (__fedctl_commands '' | string replace -r '\t.*' '')
    for word in $words
        if test $ended = 1
            set -a rest $word
        else if test $more -gt 0
            set -a __fedctl_whom (__fedctl_kept $flag $word)
            set more (math $more - 1)
        else if test "$word" = --
            set ended 1
        else if string match -q -- '--*=*' $word
            set -a __fedctl_whom (__fedctl_kept (string split -m 1 = -- $word))
        else if string match -q -- '-?*' $word
            set flag $word
            if contains -- "$word==" $flags $globals
                set more 2
                set both 1
            else if contains -- "$word=" $flags $globals
                set more 1
                set both 0
            end
        else if contains -- $word $commands
            set path (__fedctl_path (string trim -- "$path $word"))
            set flags (__fedctl_flags $path | string replace -r '\t.*' '')
            set commands (__fedctl_commands $path | string replace -r '\t.*' '')
        else
            set position (math $position + 1)
        end
    end
    set -l kind
    set -l before ''
    if test $more -gt 0
        test $both = 1 -a $more = 1
        or set kind (__fedctl_kind $path $flag)
    else if test $ended = 1
        if test (count $rest) -gt 0
            complete -C (string join ' ' -- (string escape -- $rest) $cur)
            return
        end
        set kind (__fedctl_kind $path '*')
        test "$kind" = command
        or set kind file
    else if string match -q -- '--*=*' $cur
        set -l parts (string split -m 1 = -- $cur)
        set kind (__fedctl_kind $path $parts[1])
        set before $parts[1]=
        set cur $parts[2]
    else if string match -q -- '-*' $cur
        test -n "$path"
        and __fedctl_flags $path | string replace -r '=+\t' '\t'
        __fedctl_flags '' | string replace -r '=+\t' '\t'
        return
    else if test -n "$commands"
        __fedctl_commands $path
        return
    else
        set kind (__fedctl_kind $path $position)
        test -n "$kind"
        or set kind (__fedctl_kind $path '*')
        test "$kind" = command
        and return
    end
    for token in $kind
        switch $token
            case list
                set before $before(string replace -r '[^,]*$' '' -- $cur)
            case '+*'
                printf '%s\n' $before(string sub -s 2 -- $token)
            case '@*'
                printf '%s\n' $before(__fedctl_known (string sub -s 2 -- $token))
            case file
                printf '%s\n' $before(__fish_complete_path $cur)
            case dir
                printf '%s\n' $before(__fish_complete_directories $cur '')
            case command
                complete -C "$cur"
        end
    end
end

complete -c fedctl -e
complete -c fedctl -f -a '(__fedctl_complete)'
