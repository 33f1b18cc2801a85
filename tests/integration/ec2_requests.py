"""
Requests of every action that succeed in L{tests.integration.ec2_world}.

C{$volume} stands for the volume of whoever asks, and so on.  Each request names
as few things as it can; where an action can name the same thing in several ways,
there is a request for each.
"""

from __future__ import annotations

from typing import Any

from tests.integration.ec2_world import DATA, TAGGED, permission
from tests.unit.ec2_stage import SERVER

Requests = dict[str, list[dict[str, Any]]]

LATEST = "$Latest"
"""A word of EC2's, and no name."""

TAGS = [{"Key": "purpose", "Value": "test"}]
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS imported"
ONE = {"ImageId": SERVER, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}
PORT = permission("10.2.0.0/16")
HAD = permission("10.1.0.0/16")
ALL = {"IpProtocol": "-1"}
ABOUT = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}


def launch(**more: Any) -> dict[str, Any]:
    """A launch of one instance."""
    return {**ONE, **more}


def page(name: str, list_name: str) -> list[dict[str, Any]]:
    """A Describe of all, and of one."""
    return [{}, {list_name: ["$" + name]}]


INSTANCES: Requests = {
    "RunInstances": [
        launch(),
        launch(ImageId="$image"),
        launch(KernelId="$kernel"),
        launch(RamdiskId="$ramdisk"),
        launch(KeyName="$key_name"),
        launch(SecurityGroupIds=["$group"]),
        launch(SecurityGroups=["$group_name"]),
        launch(NetworkInterfaces=[{"DeviceIndex": 0, "Groups": ["$group"]}]),
        launch(NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": "$subnet"}]),
        launch(SubnetId="$subnet"),
        launch(Placement={"GroupName": "$placement_name"}),
        launch(Placement={"GroupId": "$placement_group"}),
        launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "$snapshot"}}]),
        {"MinCount": 1, "MaxCount": 1, "LaunchTemplate": {"LaunchTemplateId": "$template"}},
        {"MinCount": 1, "MaxCount": 1, "LaunchTemplate": {"LaunchTemplateName": "$template_name"}},
    ],
    "StartInstances": [{"InstanceIds": ["$stopped"]}],
    "StopInstances": [{"InstanceIds": ["$instance"]}],
    "RebootInstances": [{"InstanceIds": ["$instance"]}],
    "TerminateInstances": [{"InstanceIds": ["$instance", "$stopped"]}],
    "MonitorInstances": [{"InstanceIds": ["$instance"]}],
    "UnmonitorInstances": [{"InstanceIds": ["$stopped"]}],
    "DescribeInstances": page("instance", "InstanceIds"),
    "DescribeInstanceStatus": page("instance", "InstanceIds"),
    "DescribeInstanceCreditSpecifications": [{}],
    "DescribeInstanceAttribute": [{"InstanceId": "$instance", "Attribute": "instanceType"}],
    "ModifyInstanceAttribute": [
        {"InstanceId": "$instance", "DisableApiTermination": {"Value": True}},
        {"InstanceId": "$stopped", "InstanceType": {"Value": "m1.small"}},
        {"InstanceId": "$stopped", "Kernel": {"Value": "$kernel"}},
        {"InstanceId": "$stopped", "Ramdisk": {"Value": "$ramdisk"}},
        {"InstanceId": "$instance", "Groups": ["$group"]},
        {
            "InstanceId": "$instance",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}],
        },
    ],
    "ResetInstanceAttribute": [{"InstanceId": "$stopped", "Attribute": "kernel"}],
    "ModifyInstanceMetadataOptions": [{"InstanceId": "$instance", "HttpTokens": "required"}],
    "ModifyInstanceMetadataDefaults": [{"HttpTokens": "required"}],
    "GetInstanceMetadataDefaults": [{}],
    "ModifyInstancePlacement": [
        {"InstanceId": "$stopped", "GroupName": "$placement_name"},
        {"InstanceId": "$stopped", "GroupId": "$placement_group"},
    ],
    "GetConsoleOutput": [{"InstanceId": "$instance"}],
    "GetConsoleScreenshot": [{"InstanceId": "$instance"}],
    "GetPasswordData": [{"InstanceId": "$instance"}],
    "GetLaunchTemplateData": [{"InstanceId": "$instance"}],
    "DescribeInstanceTypes": [{}],
    "DescribeInstanceTypeOfferings": [{}],
}

TEMPLATES: Requests = {
    "CreateLaunchTemplate": [{"LaunchTemplateName": "fresh", "LaunchTemplateData": DATA}],
    "CreateLaunchTemplateVersion": [
        {"LaunchTemplateId": "$template", "LaunchTemplateData": DATA},
        {"LaunchTemplateName": "$template_name", "SourceVersion": "1", "LaunchTemplateData": DATA},
    ],
    "ModifyLaunchTemplate": [
        {"LaunchTemplateId": "$template", "DefaultVersion": "2"},
        {"LaunchTemplateName": "$template_name", "DefaultVersion": "2"},
    ],
    "DeleteLaunchTemplate": [{"LaunchTemplateId": "$template"}, {"LaunchTemplateName": "$template_name"}],
    "DeleteLaunchTemplateVersions": [
        {"LaunchTemplateId": "$template", "Versions": ["2"]},
        {"LaunchTemplateName": "$template_name", "Versions": ["2"]},
    ],
    "DescribeLaunchTemplates": [*page("template", "LaunchTemplateIds"), {"LaunchTemplateNames": ["$template_name"]}],
    "DescribeLaunchTemplateVersions": [
        {"Versions": [LATEST]},
        {"LaunchTemplateId": "$template"},
        {"LaunchTemplateName": "$template_name", "Versions": ["1"]},
    ],
    "CreatePlacementGroup": [{"GroupName": "fresh", "Strategy": "cluster"}],
    "DeletePlacementGroup": [{"GroupName": "$placement_name"}],
    "DescribePlacementGroups": [*page("placement_group", "GroupIds"), {"GroupNames": ["$placement_name"]}],
}

STORAGE: Requests = {
    "CreateVolume": [
        {"AvailabilityZone": "nova", "Size": 1},
        {"AvailabilityZone": "nova", "SnapshotId": "$snapshot"},
    ],
    "DeleteVolume": [{"VolumeId": "$volume"}],
    "AttachVolume": [{"VolumeId": "$volume", "InstanceId": "$instance", "Device": "/dev/sdg"}],
    "DetachVolume": [
        {"VolumeId": "$attached"},
        {"VolumeId": "$on_stopped", "InstanceId": "$stopped", "Device": "/dev/sdf"},
    ],
    "DescribeVolumes": page("volume", "VolumeIds"),
    "DescribeVolumeStatus": page("volume", "VolumeIds"),
    "DescribeVolumesModifications": page("on_stopped", "VolumeIds"),
    "DescribeVolumeAttribute": [{"VolumeId": "$volume", "Attribute": "autoEnableIO"}],
    "ModifyVolumeAttribute": [{"VolumeId": "$volume", "AutoEnableIO": {"Value": True}}],
    "EnableVolumeIO": [{"VolumeId": "$volume"}],
    "ModifyVolume": [{"VolumeId": "$volume", "Size": 3}],
    "CreateSnapshot": [{"VolumeId": "$volume"}],
    "CreateSnapshots": [
        {"InstanceSpecification": {"InstanceId": "$instance"}},
        {"InstanceSpecification": {"InstanceId": "$instance", "ExcludeDataVolumeIds": ["$attached"]}},
    ],
    "DescribeSnapshots": page("snapshot", "SnapshotIds"),
    "DeleteSnapshot": [{"SnapshotId": "$snapshot"}],
    "CopySnapshot": [{"SourceSnapshotId": "$snapshot", "SourceRegion": "here"}],
    "DescribeSnapshotAttribute": [{"SnapshotId": "$snapshot", "Attribute": "createVolumePermission"}],
    "ModifySnapshotAttribute": [
        {"SnapshotId": "$snapshot", "CreateVolumePermission": {"Add": [{"UserId": "gamma"}]}},
    ],
    "ResetSnapshotAttribute": [{"SnapshotId": "$snapshot", "Attribute": "createVolumePermission"}],
}

IMAGES: Requests = {
    "RegisterImage": [
        {"Name": "fresh", "ImageLocation": "bucket/fresh.manifest.xml"},
        {"Name": "fresh", "ImageLocation": "bucket/fresh.manifest.xml", "KernelId": "$kernel"},
        {"Name": "fresh", "ImageLocation": "bucket/fresh.manifest.xml", "RamdiskId": "$ramdisk"},
        {
            "Name": "fresh",
            "RootDeviceName": "/dev/sda1",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "$snapshot"}}],
        },
    ],
    "CreateImage": [{"InstanceId": "$instance", "Name": "fresh"}],
    "CopyImage": [{"Name": "fresh", "SourceImageId": "$image", "SourceRegion": "here"}],
    "DeregisterImage": [{"ImageId": "$image"}],
    "DescribeImages": page("image", "ImageIds"),
    "DescribeImageAttribute": [{"ImageId": "$image", "Attribute": "launchPermission"}],
    "ModifyImageAttribute": [
        {"ImageId": "$image", "LaunchPermission": {"Add": [{"UserId": "gamma"}]}},
        {"ImageId": "$image", "Description": {"Value": "told"}},
    ],
    "ResetImageAttribute": [{"ImageId": "$image", "Attribute": "launchPermission"}],
}

GROUPS: Requests = {
    "CreateSecurityGroup": [
        {"GroupName": "fresh", "Description": "of tests"},
        {"GroupName": "fresh", "Description": "of tests", "VpcId": "$vpc"},
    ],
    "DeleteSecurityGroup": [{"GroupId": "$group"}, {"GroupName": "$group_name"}],
    "DescribeSecurityGroups": [*page("group", "GroupIds"), {"GroupNames": ["$group_name"]}],
    "GetSecurityGroupsForVpc": [{"VpcId": "$vpc"}],
    "AuthorizeSecurityGroupIngress": [
        {"GroupId": "$group", "IpPermissions": [PORT]},
        {"GroupName": "$group_name", "IpPermissions": [PORT]},
        {"GroupId": "$group", "IpPermissions": [{**ABOUT, "UserIdGroupPairs": [{"GroupId": "$source_group"}]}]},
        {"GroupId": "$group", "IpPermissions": [{**ABOUT, "UserIdGroupPairs": [{"GroupName": "$source_name"}]}]},
        {"GroupName": "$group_name", "SourceSecurityGroupName": "$source_name", **ABOUT},
    ],
    "AuthorizeSecurityGroupEgress": [
        {"GroupId": "$group", "IpPermissions": [PORT]},
        {"GroupId": "$group", "IpPermissions": [{**ABOUT, "UserIdGroupPairs": [{"GroupId": "$source_group"}]}]},
        {"GroupId": "$group", "IpPermissions": [{**ABOUT, "UserIdGroupPairs": [{"GroupName": "$source_name"}]}]},
        {"GroupId": "$group", "SourceSecurityGroupName": "$source_name", **ABOUT},
    ],
    "RevokeSecurityGroupIngress": [
        {"GroupId": "$group", "SourceSecurityGroupName": "$source_name"},
        {"GroupId": "$group", "IpPermissions": [{**ALL, "UserIdGroupPairs": [{"GroupId": "$source_group"}]}]},
        {"GroupId": "$group", "IpPermissions": [{**ALL, "UserIdGroupPairs": [{"GroupName": "$source_name"}]}]},
        {"GroupId": "$group", "IpPermissions": [HAD]},
        {"GroupName": "$group_name", "IpPermissions": [HAD]},
        {"GroupId": "$group", "SecurityGroupRuleIds": ["$rule"]},
    ],
    "RevokeSecurityGroupEgress": [
        {"GroupId": "$group", "SourceSecurityGroupName": "$source_name"},
        {"GroupId": "$group", "IpPermissions": [{**ALL, "UserIdGroupPairs": [{"GroupId": "$source_group"}]}]},
        {"GroupId": "$group", "IpPermissions": [{**ALL, "UserIdGroupPairs": [{"GroupName": "$source_name"}]}]},
        {"GroupId": "$group", "IpPermissions": [HAD]},
        {"GroupId": "$group", "SecurityGroupRuleIds": ["$egress_rule"]},
    ],
    "ModifySecurityGroupRules": [
        {
            "GroupId": "$group",
            "SecurityGroupRules": [
                {
                    "SecurityGroupRuleId": "$rule",
                    "SecurityGroupRule": {**ABOUT, "ReferencedGroupId": "$source_group"},
                }
            ],
        }
    ],
    "UpdateSecurityGroupRuleDescriptionsIngress": [
        {
            "GroupId": "$group",
            "SecurityGroupRuleDescriptions": [{"SecurityGroupRuleId": "$rule", "Description": "told"}],
        },
        {
            "GroupName": "$group_name",
            "IpPermissions": [{**HAD, "IpRanges": [{"CidrIp": "10.1.0.0/16", "Description": "told"}]}],
        },
    ],
    "UpdateSecurityGroupRuleDescriptionsEgress": [
        {
            "GroupId": "$group",
            "SecurityGroupRuleDescriptions": [{"SecurityGroupRuleId": "$egress_rule", "Description": "told"}],
        },
        {
            "GroupName": "$group_name",
            "IpPermissions": [{**HAD, "IpRanges": [{"CidrIp": "10.1.0.0/16", "Description": "told"}]}],
        },
    ],
    "DescribeSecurityGroupRules": [{}, {"SecurityGroupRuleIds": ["$rule", "$egress_rule"]}],
    "DescribeSecurityGroupReferences": [{"GroupId": ["$group"]}],
    "DescribeStaleSecurityGroups": [{"VpcId": "$vpc"}],
    "CreateKeyPair": [{"KeyName": "fresh", "KeyType": "ed25519"}],
    "ImportKeyPair": [{"KeyName": "fresh", "PublicKeyMaterial": PUBLIC_KEY}],
    "DeleteKeyPair": [{"KeyName": "$key_name"}, {"KeyPairId": "$key"}],
    "DescribeKeyPairs": [*page("key", "KeyPairIds"), {"KeyNames": ["$key_name"]}],
}

ADDRESSES: Requests = {
    "AllocateAddress": [{}],
    "ReleaseAddress": [{"AllocationId": "$allocation"}, {"PublicIp": "$public_ip"}],
    "AssociateAddress": [
        {"AllocationId": "$allocation", "InstanceId": "$instance"},
        {"PublicIp": "$public_ip", "InstanceId": "$instance"},
        {"AllocationId": "$allocation", "NetworkInterfaceId": "$interface"},
        {"AllocationId": "$held", "InstanceId": "$stopped"},
    ],
    "DisassociateAddress": [{"AssociationId": "$association"}, {"PublicIp": "$held_ip"}],
    "DescribeAddresses": [*page("allocation", "AllocationIds"), {"PublicIps": ["$public_ip"]}],
    "DescribeAddressesAttribute": [
        {"Attribute": "domain-name"},
        {"AllocationIds": ["$allocation"], "Attribute": "domain-name"},
    ],
    "DescribeNetworkInterfaces": page("interface", "NetworkInterfaceIds"),
    "DescribeVpcs": page("vpc", "VpcIds"),
    "DescribeVpcAttribute": [{"VpcId": "$vpc", "Attribute": "enableDnsSupport"}],
    "DescribeSubnets": page("subnet", "SubnetIds"),
    "DescribeRouteTables": page("route_table", "RouteTableIds"),
    "DescribeInternetGateways": page("gateway", "InternetGatewayIds"),
    "DescribeDhcpOptions": page("dhcp", "DhcpOptionsIds"),
    "DescribeNetworkAcls": page("acl", "NetworkAclIds"),
    "CreateTags": [{"Resources": ["$" + name], "Tags": TAGS} for name in TAGGED],
    "DeleteTags": [{"Resources": ["$" + name]} for name in TAGGED],
    "DescribeTags": [{}],
}

ALIKE: Requests = {
    "DescribeIdFormat": [{}],
    "DescribeIdentityIdFormat": [{"PrincipalArn": "arn:aws:iam::alpha:root"}],
    **{
        name: [{}]
        for name in (
            "DescribeAccountAttributes",
            "DescribeAggregateIdFormat",
            "DescribeAvailabilityZones",
            "DescribeCustomerGateways",
            "DescribeEgressOnlyInternetGateways",
            "DescribeManagedPrefixLists",
            "DescribeNatGateways",
            "DescribePrefixLists",
            "DescribePrincipalIdFormat",
            "DescribeRegions",
            "DescribeVpcEndpoints",
            "DescribeVpcPeeringConnections",
            "DescribeVpnConnections",
            "DescribeVpnGateways",
            "GetEbsEncryptionByDefault",
            "GetImageBlockPublicAccessState",
            "GetSerialConsoleAccessStatus",
            "GetSnapshotBlockPublicAccessState",
        )
    },
}
"""What is the same to all, or of which there is none: no request names anybody's things."""

REQUESTS: Requests = INSTANCES | TEMPLATES | STORAGE | IMAGES | GROUPS | ADDRESSES | ALIKE
