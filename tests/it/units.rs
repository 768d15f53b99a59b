//! What the units and what is shipped beside them say must agree.

use std::collections::BTreeSet;
use std::fs;

fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The words of all lines `key=words`.
fn directive(unit: &str, key: &str) -> BTreeSet<String> {
    let lines = unit.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn rules(profile: &str) -> impl Iterator<Item = &str> {
    profile.lines().map(str::trim).filter(|l| !l.starts_with('#')).filter_map(|l| l.strip_suffix(','))
}

#[test]
fn the_apparmor_profile_allows_what_the_unit_allows() {
    let (unit, profile) = (text("systemd/certwarden.service"), text("packaging/examples/apparmor-profile"));
    let capabilities: BTreeSet<String> = rules(&profile)
        .filter_map(|r| r.strip_prefix("capability "))
        .map(|c| format!("CAP_{}", c.to_uppercase()))
        .collect();
    assert_eq!(capabilities, directive(&unit, "CapabilityBoundingSet"));
    let mut directories = directive(&unit, "ReadWritePaths");
    directories.extend(directive(&unit, "StateDirectory").into_iter().map(|d| format!("/var/lib/{d}")));
    for directory in directories {
        let rule = format!("{}/{{,**}} rwkl", directory.trim_start_matches('-'));
        assert!(rules(&profile).any(|r| r == rule), "no rule `{rule}`");
    }
}

#[test]
fn the_recovery_at_boot_comes_after_the_mount_of_whatever_it_may_write() {
    let unit = text("systemd/certwarden-recover.service");
    let writable = directive(&unit, "ReadWritePaths");
    let writable: BTreeSet<&str> = writable.iter().map(|path| path.trim_start_matches('-')).collect();
    let mounted = directive(&unit, "RequiresMountsFor");
    assert!(writable.len() > 1 && writable.iter().all(|path| mounted.contains(*path)), "{writable:?} {mounted:?}");
    assert_eq!(directive(&unit, "Before"), BTreeSet::from(["kubelet.service".to_owned()]));
    // who has certificates elsewhere is told to name both
    let told = text("docs/operations.md");
    assert!(told.contains("RequiresMountsFor=/etc/ssl/etcd/ssl") && told.contains("ReadWritePaths=/etc/ssl/etcd/ssl"));
}

#[test]
fn under_apparmor_no_program_leaves_the_profile() {
    // with NoNewPrivileges= the exec would fail, in complain mode too
    let profile = text("packaging/examples/apparmor-profile");
    let exec: Vec<&str> = rules(&profile)
        .filter(|r| r.starts_with('/') && r.rsplit(' ').next().is_some_and(|modes| modes.contains(['x', 'X'])))
        .collect();
    assert_eq!(exec, ["/** ix"]);
    assert!(text("systemd/certwarden.service").contains("\nNoNewPrivileges=yes\n"));
}

#[test]
fn who_talks_to_others_has_no_privilege_and_cannot_reach_keys() {
    for name in ["export", "watch"] {
        let unit = text(&format!("systemd/certwarden-{name}.service"));
        for line in ["DynamicUser=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "NoNewPrivileges=yes"] {
            assert!(unit.lines().any(|l| l == line), "certwarden-{name}.service: {line}");
        }
        let hidden = directive(&unit, "InaccessiblePaths");
        assert!(["-/var/lib/kubelet", "-/var/lib/etcd", "-/var/lib/certwarden"].iter().all(|p| hidden.contains(*p)));
    }
}

#[test]
fn the_daemon_can_neither_write_manifests_nor_listen_nor_take_the_nodes_memory() {
    let unit = text("systemd/certwarden.service");
    // below what it may write, so that this comes on top of it (systemd.exec(5): the longer path decides)
    assert!(directive(&unit, "ReadOnlyPaths").contains("-/etc/kubernetes/manifests"));
    assert!(directive(&unit, "ReadWritePaths").contains("-/etc/kubernetes"));
    assert_eq!(directive(&unit, "SocketBindDeny"), BTreeSet::from(["any".to_owned()]));
    assert!(directive(&unit, "SocketBindAllow").is_empty());
    let limit = directive(&unit, "MemoryMax").into_iter().next().unwrap();
    let mebibytes: u32 = limit.strip_suffix('M').unwrap().parse().unwrap();
    // kubeadm, and the tmpfs that it works on
    assert!((256..=1024).contains(&mebibytes), "{limit}");
}

/// What systemd.exec(5), systemd.service(5), systemd.unit(5), systemd.kill(5), systemd.timer(5), systemd.socket(5) and
/// systemd.resource-control(5) of systemd 262 say to have been "added in version 250" or later.
const AFTER_249: &str = "AcceptFileDescriptors BPFDelegateAttachments BPFDelegateCommands BPFDelegateMaps BPFDelegatePrograms \
    BindLogSockets BindNetworkInterface CPUPressureThresholdSec CPUPressureWatch CPUSetPartition CacheDirectoryAccounting \
    CacheDirectoryQuota ConditionCPUPressure ConditionCredential ConditionFraction ConditionIOPressure ConditionKernelModuleLoaded \
    ConditionMachineTag ConditionMemoryPressure ConditionPathIsSocket ConditionSecurity ConditionVersion CoredumpReceive DeferReactivation \
    DeferTrigger DeferTriggerMaxSec DelegateNamespaces DelegateSubgroup ExecReloadPost ExecSearchPath ExitType ExtensionDirectories \
    ExtensionImagePolicy FileDescriptorStorePreserve IOPressureThresholdSec IOPressureWatch ImportCredential LUOSession LogFilterPatterns \
    LogsDirectoryAccounting LogsDirectoryQuota ManagedOOMMemoryPressureDurationSec MemoryKSM MemoryPressureThresholdSec \
    MemoryPressureWatch MemoryTHP MemoryZSwapMax MemoryZSwapWriteback MountImagePolicy NFTSet OOMRules OpenFile PassFileDescriptorsToExec \
    PassPIDFD PollLimitBurst PollLimitIntervalSec PrivateBPF PrivatePIDs RandomizedOffsetSec RefreshOnReload ReloadSignal \
    RestartMaxDelaySec RestartMode RestartRandomizedDelaySec RestartSteps RestrictFileSystems RestrictNetworkInterfaces RootEphemeral \
    RootImagePolicy RootMStack RuntimeRandomizedExtraSec SetLoginEnvironment StartupMemoryZSwapMax StateDirectoryAccounting \
    StateDirectoryQuota SurviveFinalKillSignal TTYColumns TTYRows UserNamespacePath WantsMountsFor XAttrAccept XAttrEntryPoint XAttrListen";

#[test]
fn systemd_249_knows_every_directive_of_every_unit() {
    let newer: BTreeSet<&str> = AFTER_249.split_whitespace().collect();
    let mut seen = 0;
    for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")).unwrap() {
        let path = unit.unwrap().path();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            assert!(!newer.contains(key), "{}: {line}", path.display());
            assert!(key != "Type" || value != "notify-reload", "{}: systemd 253 came with it", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} directives were seen");
}
