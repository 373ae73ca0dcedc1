"""Images as DICOM: MR Image Storage instances, files, and sending them to an archive.

::

    exporter = DicomExporter(scan)
    for image in images:
        for dataset in exporter.instances(image):
            write_file(dataset, folder)

`dataset` makes the instances from `patient`, `acquisition`, `provenance`, `voxels` and `uids`; `files` writes them,
`spool` keeps what is still to be sent, `store` sends it. Only `dataset`, its parts and `store` need the extra
``dicom``.
"""
